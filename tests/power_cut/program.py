"""Runs a program as its script does, with a tiny network.

    python -m tests.power_cut.program train --config=... --run_folder=one

The trainer also prints a line after each checkpoint: from then on the checkpoint must
survive a power cut.
"""

import os
import sys

from resnet50 import command_line

NEEDS_TENSORFLOW = {"train", "evaluate"}


def shrink_network() -> None:
    """Makes every ResNet-50 of this process one of 4 blocks with few channels."""
    from resnet50.network import model
    from resnet50.training.update import step

    stages = tuple(model.Stage(1, 4, stage.stride) for stage in model.STAGES)
    model.STEM_CHANNELS = 4
    model.ResNet50.__init__.__kwdefaults__["stages"] = stages
    step.create_training.__defaults__ = (*step.create_training.__defaults__[:-1], stages)


def announce_checkpoints() -> None:
    """Prints "saved RUN EPOCH BATCH" after each checkpoint."""
    from resnet50.training import checkpoint

    save = checkpoint.save

    def save_and_announce(training, run_folder, position, description):
        path = save(training, run_folder, position, description)
        # In one write, around Python's buffer: the recorder sees it at once.
        os.write(1, "saved {} {} {}\n".format(run_folder.name, *position).encode())
        return path

    checkpoint.save = save_and_announce


def prepare(name: str) -> None:
    """Imports and changes what the program needs."""
    if name in NEEDS_TENSORFLOW:
        shrink_network()
        announce_checkpoints()


def main() -> None:
    """Runs the program that the command line names."""
    name = sys.argv.pop(1)
    prepare(name)
    command_line.run_command(name)


if __name__ == "__main__":
    main()
