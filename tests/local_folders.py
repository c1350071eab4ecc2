"""Proves that hosts with local folders train like hosts that share one.

    python -m tests.local_folders

All hosts are processes on this machine, with a network of two blocks:

    shared      two hosts and one preprocessor, with one folder
    local       two hosts, each with its own preprocessor and folders
    guest lost  the same, but host 1 is killed, with its preprocessor, in the second
                epoch, and loses its buffer and its run; then all --resume
    chief lost  the same with host 0
    one host    continues a run of two hosts that stopped inside an epoch
    other       two hosts whose images have the same names, but other pixels

The weights of the first four must be bitwise equal, on each host that saves them. The
losses of one host must agree to 1e-4, as it sums in another order. The last two hosts
must refuse each other.
"""

import argparse
import contextlib
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np

from resnet50.demo.pictures import make_images
from resnet50.reports.tables import read_table
from resnet50.training.checkpoint_folders import list_checkpoints
from tests.checkpoints import Variables, different_variables, read_variables
from tests.training.devices.loopback_hosts import (
    ended,
    preprocessor,
    trainer,
    two_local_hosts,
    two_trainers,
    wait_for_progress,
    write_config,
)

_EPOCHS, _PER_CLASS = 2, 8
_MAX_DIFFERENCE = 1e-4


def _weights(config: Path) -> Variables:
    """All variables in the newest checkpoint of a run."""
    return read_variables(list_checkpoints(config.parent / "saved_models/run")[-1].path)


def _losses(config: Path) -> list[float]:
    rows = read_table(config.parent / "saved_models/run/metrics.csv")
    return [float(row["loss"]) for row in rows]


def _require_equal(what: str, config: Path, expected: Variables) -> None:
    found = _weights(config)
    assert not different_variables(found, expected), what
    print(f"{what}: {len(found)} variables are bitwise equal", flush=True)


def _require_success(processes) -> list[str]:
    """Waits for programs; returns what they have said."""
    results = [ended(process) for process in processes]
    for code, errors in results:
        assert code == 0, errors
    return [errors for _, errors in results]


class _Proof:
    """The scenarios; each has folders of its own."""

    def __init__(self, folder: Path):
        self._folder = folder
        make_images(folder / "images/train", _PER_CLASS, 1, with_odd_files=False)

    def _config(self, name: str, **train) -> Path:
        settings = {"epochs": _EPOCHS, **train}
        return write_config(self._folder / name, self._folder / "images", **settings)

    def _two(self, name: str) -> list[Path]:
        names = f"{name}_host0", f"{name}_host1"
        return [self._config(name, local_folders=True) for name in names]

    def run(self) -> None:
        """Runs all scenarios; an AssertionError says which failed."""
        shared = self._config("shared")
        with preprocessor(shared), two_trainers([shared] * 2) as trainers:
            _require_success(trainers)
        expected = _weights(shared)
        print(f"shared: losses {_losses(shared)}", flush=True)

        local = self._two("local")
        with two_local_hosts(local) as (makers, trainers):
            _require_success([*trainers, *makers])
        for index, config in enumerate(local):
            _require_equal(f"local, host {index}", config, expected)
            assert _losses(config) == _losses(shared)

        for lost, name in ((1, "guest"), (0, "chief")):
            self._lose_one(f"{name} lost", self._two(name), lost, expected)
        self._continue_on_one(self._two("one"), _losses(shared))
        self._refuse_other_images(self._two("other"))

    def _lose_one(self, what, configs, lost, expected) -> None:
        with two_local_hosts(configs) as (makers, trainers):
            wait_for_progress(configs[0], (1, 3), trainers)
            makers[lost].kill()
            trainers[lost].kill()
            code, errors = ended(trainers[1 - lost])
        assert code == 1, errors
        last = errors.splitlines()[-1]
        assert last.startswith(f"worker {lost}, "), errors
        print(f"{what}: {last}", flush=True)
        for folder in "buffer", "saved_models":
            shutil.rmtree(configs[lost].parent / folder)
        with two_local_hosts(configs, "--resume") as (makers, trainers):
            said = _require_success([*trainers, *makers])
        [line] = [x for x in said[lost].splitlines() if "has the newest" in x]
        print(f"{what}: {line}", flush=True)
        for index, config in enumerate(configs):
            _require_equal(f"{what}, host {index}", config, expected)

    def _continue_on_one(self, configs, expected) -> None:
        with two_local_hosts(configs) as (_, trainers):
            wait_for_progress(configs[0], (1, 3), trainers)
            trainers[0].send_signal(signal.SIGTERM)
            results = [ended(each) for each in trainers]
        assert [code for code, _ in results] == [130, 130], results
        with preprocessor(configs[1]), trainer(configs[1], "--resume") as alone:
            _require_success([alone])
        found = _losses(configs[1])
        np.testing.assert_allclose(found, expected, rtol=_MAX_DIFFERENCE)
        print(f"one host: losses {found}", flush=True)

    def _refuse_other_images(self, configs) -> None:
        images = self._folder / "other"
        make_images(images / "train", _PER_CLASS, 2, with_odd_files=False)
        configs[1] = write_config(configs[1].parent, images, local_folders=True)
        with two_trainers(configs) as trainers:
            results = [ended(each) for each in trainers]
        for code, errors in results:
            last = errors.splitlines()[-1]
            assert code == 1 and ": digest of 16 images = " in last, errors
        print(f"other: {last}", flush=True)


def main() -> None:
    """Reads the flags and runs the proof in a new folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="keep the files of all runs here")
    folder = parser.parse_args().folder
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            folder.mkdir(parents=True)
        _Proof(folder).run()


if __name__ == "__main__":
    main()
