"""Checks the machine, the settings and the images before a training.

    python -m resnet50 doctor

Each check prints one line: ok; warning, if a training can start but not as it should;
or problem, if it cannot; and in brackets what to do. The exit status is 1 if there is
any problem. Takes some ten seconds, most of them TensorFlow's, and longer with a GPU,
as a convolution is tried on it.
"""

import platform
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from resnet50 import command_line
from resnet50.checks import agreement, cuda, data, disks, gpu, machine, software
from resnet50.checks.agreement import Programs
from resnet50.checks.findings import OK, PROBLEM, WARNING, Finding, guarded
from resnet50.config.settings import Config
from resnet50.dataset.images import Dataset
from resnet50.dataset.listing import (
    open_training_set,
    open_validation_set,
)
from resnet50.errors import UserError
from resnet50.handoff.buffer import BatchSpec
from resnet50.handoff.manifest import read_manifest
from resnet50.preprocessing.batches import BatchSettings

_SHARED_MEMORY = Path("/dev/shm")


class CannotTrainError(UserError):
    """The doctor has found a problem."""


def look_at_software() -> Iterator[Finding]:
    """Python and the packages."""
    bounds = software.read_bounds()
    yield software.check_python(platform.python_version(), bounds.python)
    yield from software.check_packages(bounds.packages)


def look_at_validation_set(config: Config, training: Dataset) -> Iterator[Finding]:
    """The validation images, which only the evaluation needs."""
    validation = open_validation_set(
        config.dataset, training.class_names, config.train.buffer_folder
    )
    yield data.check_validation_set(validation)
    yield from data.check_passed_over(validation)


def look_at_images(config: Config) -> Iterator[Finding]:
    """Both sets of images, their statistics, and what only they can tell of the rest.

    Raises:
        DatasetError: The training images cannot be used.
    """
    dataset = open_training_set(config.dataset, config.train.buffer_folder)
    yield data.check_training_set(dataset, config.train.batch_size)
    yield from data.check_passed_over(dataset)
    yield from guarded(
        "validation images",
        partial(look_at_validation_set, config, dataset),
        status=WARNING,
    )
    yield from data.check_sample(data.read_sample(dataset), config.dataset)
    yield from guarded("programs", partial(look_at_pair, config, dataset))
    yield from guarded("checkpoints", partial(look_at_checkpoints, config, dataset))


def look_at_pair(config: Config, dataset: Dataset) -> Iterator[Finding]:
    """What the buffer folder tells of the two programs."""
    folder, recipe = config.train.buffer_folder, BatchSettings.from_config(config)
    running = agreement.find_programs(folder)
    yield agreement.check_running(running)
    yield agreement.check_manifest(
        read_manifest(folder), recipe.manifest(dataset), running
    )
    batches_per_epoch = dataset.batches_per_epoch(recipe.batch_size)
    end_step = config.train.epochs * batches_per_epoch
    yield agreement.check_progress(folder, batches_per_epoch, end_step)


def batch_bytes(config: Config) -> int:
    """Size of a batch, for which the number of classes does not matter."""
    train, crop_size = config.train, config.augmentation.crop_size
    spec = BatchSpec(train.batch_size, crop_size, train.dtype, num_classes=0)
    return spec.batch_bytes


def look_at_checkpoints(config: Config, dataset: Dataset) -> Iterator[Finding]:
    """The room for the checkpoints, of which the buffer may take a part."""
    train = config.train
    free = disks.free_bytes(train.saved_models_folder)
    if disks.is_same_disk(train.saved_models_folder, train.buffer_folder):
        free -= disks.missing_buffer_bytes(
            train.buffer_folder, train.buffer_size, batch_bytes(config)
        )
    yield disks.check_checkpoint_room(
        train.saved_models_folder,
        max(0, free),
        dataset.num_classes,
        train.epochs,
        train.keep_checkpoints,
    )


def look_at_machine(config: Config) -> Iterator[Finding]:
    """Cores, memory, and the buffer's place."""
    train, num_workers = config.train, config.runtime_preprocessing.num_workers
    size = batch_bytes(config)
    yield machine.check_cores(machine.usable_cores(), num_workers)
    mounts = Path("/proc/mounts")
    kind = ""
    if mounts.exists():
        kind = disks.file_system_of(train.buffer_folder.resolve(), mounts.read_text())
    ram_disk_bytes = 0
    if disks.is_ram_disk(kind):
        ram_disk_bytes = disks.missing_buffer_bytes(
            train.buffer_folder, train.buffer_size, size
        )
    memory = machine.available_memory()
    yield machine.check_memory(
        memory,
        num_workers,
        train.read_ahead * size,
        ram_disk_bytes,
    )
    yield disks.check_file_system(train.buffer_folder, kind)
    yield disks.check_buffer_room(train.buffer_folder, train.buffer_size, size)
    if _SHARED_MEMORY.is_dir() and not disks.is_ram_disk(kind):
        # It may be given more than there is memory left.
        free = disks.free_bytes(_SHARED_MEMORY)
        free = free if memory is None else min(free, memory)
        yield disks.check_shared_memory(free, train.buffer_size, size)


def look_at_folders(config: Config) -> Iterator[Finding]:
    """The folders that the two programs write to."""
    for setting, folder in (
        ("[train] buffer_folder", config.train.buffer_folder),
        ("[train] saved_models_folder", config.train.saved_models_folder),
    ):
        trial = disks.try_to_write(folder)
        yield disks.check_writing(setting, folder, trial)


def attempt(with_xla: bool) -> cuda.Outcome:
    """Tries the GPU in a process of its own, which it may cost its life."""
    program = f"from resnet50.training.devices.trial import main; main({with_xla=})"
    return cuda.run_child(sys.executable, "-c", program)


def look_at_gpu(running: Programs) -> Iterator[Finding]:
    """The GPU, its driver and its libraries."""
    try:
        # Here, so that all else is said before TensorFlow takes its seconds.
        from resnet50.training.devices import trial
    except ImportError as error:
        yield Finding(
            PROBLEM,
            f"TensorFlow: cannot be imported: {error}",
            "python3 -m pip install 'tensorflow[and-cuda]'",
        )
        return
    folders = cuda.package_folders()
    yield from gpu.check_gpu(
        trial.find_build(),
        trial.find_gpus(),
        load=lambda name: cuda.load_library(name, folders),
        attempt=None if running.trainer else attempt,
    )


def diagnose(args) -> Iterator[Finding]:
    """All findings, the quick ones first."""
    yield from guarded("Python", look_at_software)
    running = Programs(None, None)
    try:
        config = command_line.load_config(args)
    except UserError as error:
        yield Finding(PROBLEM, str(error))
    else:
        yield Finding(OK, f"configuration: {args.config} is complete and valid")
        running = agreement.find_programs(config.train.buffer_folder)
        yield from guarded("machine", partial(look_at_machine, config))
        yield from guarded("folders", partial(look_at_folders, config))
        yield from guarded("training images", partial(look_at_images, config))
    yield from guarded("GPU", partial(look_at_gpu, running), status=WARNING)


def main() -> None:
    """Prints every finding, and whether a training can start."""
    parser = command_line.make_parser(__doc__, "batch_size", "num_workers")
    args = parser.parse_args()
    counts = {OK: 0, WARNING: 0, PROBLEM: 0}
    for finding in diagnose(args):
        counts[finding.status] += 1
        print(finding, flush=True)
    summary = f"problems: {counts[PROBLEM]}, warnings: {counts[WARNING]}"
    if counts[PROBLEM]:
        raise CannotTrainError(f"a training cannot start; {summary}")
    print(f"a training can start; {summary}")
