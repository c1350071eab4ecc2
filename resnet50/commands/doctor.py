"""Checks the machine, the settings and the images before a training.

    python -m resnet50 doctor

Each check prints one line: "ok"; "warning" if a training can start but will not run as
it should; or "problem" if it cannot start. The brackets say what to do. The exit status
is 1 if there is any problem. Takes about ten seconds, mostly to load TensorFlow, and
longer with a GPU, on which it tries a training step.

    python -m resnet50 doctor --gpu-report

tries the GPU instead, for about 25 minutes, and writes a report into a file.
"""

import argparse
import platform
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from resnet50 import command_line
from resnet50.checks import agreement, cuda, data, disks, gpu, machine, software
from resnet50.checks.agreement import Programs
from resnet50.checks.cuda import Build, Gpu
from resnet50.checks.findings import OK, PROBLEM, WARNING, Finding, guarded
from resnet50.checks.gpu_report import CardPlan, write_report
from resnet50.checks.gpu_trials import TrialOutcome, run_trial
from resnet50.config.settings import Config
from resnet50.dataset.images import Dataset
from resnet50.dataset.listing import open_training_set, open_validation_set
from resnet50.dataset.remote.image_cache import used_bytes
from resnet50.errors import UserError
from resnet50.handoff.buffer import BatchSpec
from resnet50.handoff.manifest import manifest_rows, read_manifest
from resnet50.preprocessing.batches import BatchSettings

_SHARED_MEMORY = Path("/dev/shm")


class CannotTrainError(UserError):
    """The doctor has found a problem."""


def inspect_software() -> Iterator[Finding]:
    """Checks Python and the packages."""
    python, requirements = software.read_requirements()
    yield software.check_python(platform.python_version(), python)
    yield from software.check_packages(requirements)


def inspect_images(config: Config) -> Iterator[Finding]:
    """Checks both sets of images, and what can be checked only with their counts.

    Raises:
        DatasetError: The training images cannot be used.
    """
    dataset = open_training_set(config.dataset, config.train.buffer_folder)
    yield data.check_training_set(dataset, config.train.batch_size)
    yield from data.check_skipped(dataset)
    if cache := dataset.locations and dataset.locations.cache:
        folder, used = Path(cache.folder), used_bytes(cache.folder)
        yield disks.check_cache_room(folder, cache.max_bytes, used)
    # Only the evaluation needs the validation images.
    validation = inspect_validation_set(config, dataset)
    yield from guarded("validation images", validation, status=WARNING)
    yield from data.check_sample(data.read_sample(dataset), config.dataset)
    yield from guarded("programs", inspect_pair(config, dataset))
    yield from guarded("checkpoints", inspect_checkpoints(config, dataset))


def inspect_validation_set(config: Config, training: Dataset) -> Iterator[Finding]:
    """Checks the validation images."""
    validation = open_validation_set(
        config.dataset, training.class_names, config.train.buffer_folder
    )
    yield data.check_validation_set(validation)
    yield from data.check_skipped(validation)


def inspect_pair(config: Config, dataset: Dataset) -> Iterator[Finding]:
    """Checks what the two programs have left in the buffer folder."""
    folder = config.train.buffer_folder
    running = agreement.find_programs(folder)
    yield agreement.check_running(running)
    found = read_manifest(folder)
    # Which rows are this host's, only TF_CONFIG of the two programs says.
    rows = manifest_rows(found or {}) if config.train.local_folders else None
    settings = BatchSettings.from_config(config, rows)
    yield agreement.check_manifest(found, settings.manifest(dataset), running)
    batches_per_epoch = dataset.batches_per_epoch(settings.batch_size)
    end_step = config.train.epochs * batches_per_epoch
    yield agreement.check_progress(folder, batches_per_epoch, end_step)


def missing_batch_bytes(config: Config) -> tuple[int, int]:
    """Size of a batch, and of the batches that the buffer still has room for."""
    train, crop_size = config.train, config.augmentation.crop_size
    # The number of classes does not change the size.
    size = BatchSpec(train.batch_size, crop_size, train.dtype, 0).batch_bytes
    missing = disks.missing_buffer_bytes(train.buffer_folder, train.buffer_size, size)
    return size, missing


def inspect_checkpoints(config: Config, dataset: Dataset) -> Iterator[Finding]:
    """Checks the space for checkpoints, less what the buffer will take."""
    train = config.train
    free = disks.free_bytes(train.saved_models_folder)
    if disks.is_same_disk(train.saved_models_folder, train.buffer_folder):
        free -= missing_batch_bytes(config)[1]
    yield disks.check_checkpoint_room(train, max(0, free), dataset.num_classes)


def inspect_machine(config: Config) -> Iterator[Finding]:
    """Checks cores, memory, and the buffer's disk."""
    train, num_workers = config.train, config.runtime_preprocessing.num_workers
    size, missing = missing_batch_bytes(config)
    kind = disks.file_system_of(train.buffer_folder.resolve())
    is_in_memory = kind in disks.RAM_DISKS
    memory = machine.available_memory()
    yield machine.check_cores(machine.usable_cores(), num_workers)
    yield machine.check_memory(
        memory, num_workers, train.read_ahead * size, missing if is_in_memory else 0
    )
    yield disks.check_file_system(train.buffer_folder, kind)
    yield disks.check_buffer_room(train.buffer_folder, train.buffer_size, size)
    if _SHARED_MEMORY.is_dir() and not is_in_memory:
        # /dev/shm may be larger than the memory that is left.
        free = disks.free_bytes(_SHARED_MEMORY)
        free = free if memory is None else min(free, memory)
        yield disks.check_shared_memory(free, train.buffer_size, size)


def inspect_folders(config: Config) -> Iterator[Finding]:
    """Checks the folders that the two programs write to."""
    for key in ("buffer_folder", "saved_models_folder"):
        folder = getattr(config.train, key)
        yield disks.check_writing(f"[train] {key}", folder, disks.try_to_write(folder))


def attempt(config: Config, build: Build, card: Gpu, with_xla: bool) -> TrialOutcome:
    """Makes some training steps in a process of its own, which may crash."""
    plan = CardPlan(config, card, build)
    return run_trial("measure_step", plan.small_step(xla=with_xla))


def inspect_gpu(running: Programs, config: Config | None) -> Iterator[Finding]:
    """Checks the GPU, its driver and its libraries."""
    try:
        # Imported here so that everything else is printed before TensorFlow loads.
        with command_line.loading_tensorflow() as startup_lines:
            from resnet50.training.devices import reported
    except ImportError as error:
        what = f"TensorFlow: cannot be imported: {error}"
        yield Finding(PROBLEM, what, "python3 -m pip install 'tensorflow[and-cuda]'")
        return
    build, cudnn = reported.find_build(), None
    gpus = reported.find_gpus()
    yield gpu.check_build(build)
    if build.cuda:
        driver = gpu.check_driver(cuda.find_driver(), build)
        yield driver
        if driver.status == OK and not gpus:
            yield from gpu.quote_tensorflow(startup_lines)
        folders, names = cuda.package_folders(), cuda.required_libraries()
        reasons = {name: cuda.load_library(name, folders) for name in names}
        yield gpu.check_libraries(build, reasons)
        yield from gpu.check_gpu_memory(cuda.find_memory())
        name = f"libcudnn.so.{build.cudnn.split('.')[0]}"
        cudnn = cuda.find_cudnn(name, folders)
    trying = None
    if config is not None and not running.trainer:
        trying = partial(attempt, config, build)
    yield from gpu.check_devices(gpus, build, cudnn, trying)


def diagnose(args) -> Iterator[Finding]:
    """Yields all findings, the quick ones first."""
    yield from guarded("Python", inspect_software())
    running, config = Programs(None, None), None
    try:
        config = command_line.load_config(args)
    except UserError as error:
        yield Finding(PROBLEM, str(error))
    else:
        yield Finding(OK, f"configuration: {args.config} is complete and valid")
        running = agreement.find_programs(config.train.buffer_folder)
        yield from guarded("machine", inspect_machine(config))
        yield from guarded("folders", inspect_folders(config))
        yield from guarded("training images", inspect_images(config))
    yield from guarded("GPU", inspect_gpu(running, config), status=WARNING)


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = command_line.make_parser(__doc__, "batch_size", "num_workers")
    parser.add_argument(
        "--gpu-report",
        nargs="?",
        const="gpu-report.txt",
        type=Path,
        metavar="FILE",
        help="try the GPU instead and write a report; default: gpu-report.txt",
    )
    return parser


def main() -> None:
    """Prints every finding, and whether a training can start."""
    args = build_parser().parse_args()
    if args.gpu_report is not None:
        config = command_line.load_config(args)
        if agreement.find_programs(config.train.buffer_folder).trainer:
            raise CannotTrainError("--gpu-report: train.py uses the GPU (stop it)")
        write_report(config, args.gpu_report, partial(print, flush=True))
        return
    counts = {OK: 0, WARNING: 0, PROBLEM: 0}
    for finding in diagnose(args):
        counts[finding.status] += 1
        print(finding, flush=True)
    summary = f"problems: {counts[PROBLEM]}, warnings: {counts[WARNING]}"
    if counts[PROBLEM]:
        raise CannotTrainError(f"a training cannot start; {summary}")
    print(f"a training can start; {summary}")
