"""Runs train.py with a stand-in for its GPU; see ``device``. No test.

    python -m tests.rehearsal.trainer RECORD STEP_SECONDS FLAGS...

The FLAGS are those of train.py. The stand-in is put in place when TensorFlow is loaded,
so the program starts in the usual order.
"""

import contextlib
import runpy
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from resnet50 import command_line


def main() -> None:
    """Replaces the device, and runs the script with the flags."""
    record, step_seconds, *flags = sys.argv[1:]
    load = command_line.loading_tensorflow

    @contextlib.contextmanager
    def loading_with_stand_in() -> Iterator[list[str]]:
        started = time.monotonic()
        with load() as lines:
            yield lines
        seconds = time.monotonic() - started
        from tests.rehearsal import device

        device.install(Path(record), float(step_seconds), seconds)

    command_line.loading_tensorflow = loading_with_stand_in
    sys.argv = ["train.py", *flags]
    runpy.run_path("train.py", run_name="__main__")


if __name__ == "__main__":
    main()
