"""Reads and compares what checkpoints hold, without the network that wrote them."""

from pathlib import Path

import numpy as np

Variables = dict[str, np.ndarray]


def read_variables(checkpoint: Path) -> Variables:
    """All variables in a checkpoint's folder, by name."""
    # Only now: it takes memory, and sets environment variables for programs to come.
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(checkpoint / "variables"))
    names = sorted(reader.get_variable_to_shape_map())
    return {name: reader.get_tensor(name) for name in names if "VARIABLE_VALUE" in name}


def different_variables(first: Variables, second: Variables) -> list[str]:
    """Names of the variables that are missing in one, or are not bitwise equal."""
    return sorted(
        name
        for name in first.keys() | second.keys()
        if name not in first
        or name not in second
        or first[name].tobytes() != second[name].tobytes()
    )
