"""Measures what the optional steps cost, and torchvision's on uint8 tensors.

One thread, crops of 224 pixels, all levels of each operation in turn. A crop of a
random area costs what resizing costs; see step_costs. Needs torch and torchvision.

    python3 -m benchmarks.optional_costs
"""

import argparse
import statistics
import time

import numpy as np

from benchmarks.environment import cpu_model, versions
from benchmarks.peers.torchvision_programs import import_torchvision
from benchmarks.photographs import photograph
from resnet50.pixels.random_boxes import draw_erasing, erased_box
from resnet50.pixels.trivial_augment import (
    MAX_LEVEL,
    OPERATIONS,
    SIGNED,
    Operation,
    apply_operation,
)

_SIZE = 224
_ROUNDS = 5


def _microseconds(function, *arguments) -> float:
    started = time.perf_counter()
    function(*arguments)
    return 1e6 * (time.perf_counter() - started)


def measure_operations(crop: np.ndarray) -> None:
    """Prints the median time of each of TrivialAugment's operations, and their mean."""
    torch, _ = import_torchvision()
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    theirs = v2.TrivialAugmentWide(fill=0)
    tensor = torch.from_numpy(crop.transpose(2, 0, 1).copy())
    print(f"{'operation':16} {'us':>6} {'torchvision':>12}")
    medians = []
    for name in OPERATIONS:
        strengths = theirs._AUGMENTATION_SPACE[name][0](MAX_LEVEL + 1, _SIZE, _SIZE)
        times = []
        for _ in range(_ROUNDS):
            for level in range(MAX_LEVEL + 1):
                signed = -level if name in SIGNED and level % 2 else level
                strength = 0.0 if strengths is None else float(strengths[level])
                strength = -strength if signed < 0 else strength
                ours = _microseconds(
                    apply_operation, crop.copy(), Operation(name, signed)
                )
                peer = _microseconds(
                    theirs._apply_image_or_video_transform,
                    *(tensor, name, strength, theirs.interpolation, theirs._fill),
                )
                times.append((ours, peer))
        medians.append([statistics.median(column) for column in zip(*times)])
        print(f"{name:16} {medians[-1][0]:6.0f} {medians[-1][1]:12.0f}")
    ours, peer = np.mean(medians, axis=0)
    print(f"{'mean':16} {ours:6.0f} {peer:12.0f}")


def measure_erasing(crop: np.ndarray) -> None:
    """Prints the time of finding and erasing a box."""
    out = crop.astype(np.float16)

    def erase(draw):
        box = erased_box(_SIZE, draw)
        out[box.top : box.top + box.height, box.left : box.left + box.width] = 0

    draws = draw_erasing(np.random.default_rng(0), 200)
    median = statistics.median(_microseconds(erase, draw) for draw in draws)
    print(f"{'random erasing':16} {median:6.0f}")


def main() -> None:
    """Measures and prints."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    crop = photograph(_SIZE, _SIZE, np.random.default_rng(0))
    print(f"{cpu_model()}; {versions('numpy', 'pillow', 'torchvision')}")
    measure_operations(crop)
    measure_erasing(crop)


if __name__ == "__main__":
    main()
