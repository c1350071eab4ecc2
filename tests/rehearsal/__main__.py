"""A week in an hour: a training on as many images as ImageNet has, and restarts.

    python -m tests.rehearsal

runtime_preprocessing.py is the real program, and so is train.py but for the computation
of a step, for which a stand-in takes the time of an A100; see ``device``. The training
has 1,281,167 images of 1,000 classes, each a file, and 20,016 batches of 256. Each
program is ended three times, by SIGTERM, kill -9, and SIGKILL for all its processes,
and started again with the command that was printed. The images are a seventh as wide
and high as ImageNet's; so are the shorter sides and the crop of 32 pixels.

A table has the start times, memory, open files, speed and waits, with a verdict each;
the exit status is 1 if one is not met.
"""

import csv
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from resnet50.command_line import make_plain_parser
from tests.rehearsal import report
from tests.rehearsal.pair import PREPROCESSOR, TRAINER, Pair, Scale
from tests.rehearsal.pictures import make_pictures
from tests.rehearsal.programs import Sample, Sampler
from tests.rehearsal.record import read_record
from tests.rehearsal.report import Verdict
from tests.settings import PROJECT


def _seconds_of(words: list[str]) -> float:
    """How long a Python program takes."""
    started = time.monotonic()
    subprocess.run(
        [sys.executable, *words], cwd=PROJECT, check=True, capture_output=True
    )
    return time.monotonic() - started


def make_archive(path: Path, images: Path) -> None:
    """Writes all images into one tar archive, which appears whole."""
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        with tarfile.open(unfinished, "w", format=tarfile.GNU_FORMAT) as archive:
            for folder in sorted(images.iterdir()):
                archive.add(folder, folder.name)
        unfinished.rename(path)


def _new_folder(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def time_starts(pair: Pair, what: str) -> Verdict:
    """Starts the preprocessor three times: at first it has no index of the images."""
    try:
        return report.opening(what, [pair.time_preprocessor() for _ in range(3)])
    finally:
        pair.close()


def train(pair: Pair) -> list[Verdict]:
    """Runs the whole training, with the restarts; returns its part of the table."""
    programs, scale = pair.programs, pair.scale
    num_before = len(programs[PREPROCESSOR].started)
    sampler = Sampler(list(programs.values()), pair.step, pair.num_ready)
    started = time.monotonic()
    sampler.start()
    try:
        pair.train()
    finally:
        sampler.end()
        pair.close()
    minutes = (time.monotonic() - started) / 60
    with (pair.folder / "samples.csv").open("w", newline="") as file:
        csv.writer(file).writerows([Sample._fields, *sampler.samples])
    starts = read_record(pair.record)
    num_starts = len(programs[PREPROCESSOR].started)
    listing = [pair.listing_seconds(start) for start in range(num_before, num_starts)]
    found, expected = pair.digest()
    num_repeated = sum(len(start.steps) for start in starts) - scale.num_steps
    loads = sampler.loads
    return [
        Verdict(
            "size",
            f"{scale.num_images:,} images of {scale.num_classes:,} classes, "
            f"{scale.num_workers} workers, a buffer of {scale.buffer_size:,}, "
            f"{scale.num_steps:,} steps of {scale.batch_size}, {num_repeated:,} of "
            f"them repeated after kills, in {minutes:.1f} minutes",
        ),
        Verdict(
            "load average of the machine, least, mean and most",
            f"{min(loads):.1f}, {sum(loads) / len(loads):.1f}, {max(loads):.1f} on "
            f"{os.cpu_count()} cores",
        ),
        report.listings(listing),
        *report.trainer_starts(programs[TRAINER], starts),
        *report.growth(sampler.samples, TRAINER, scale.batches_per_epoch),
        *report.growth(sampler.samples, PREPROCESSOR, scale.batches_per_epoch),
        *report.speed(starts, scale.batch_size / scale.images_per_second),
        *report.waits(starts),
        report.fewest_ready(sampler.samples, TRAINER),
        Verdict(
            "each batch was trained on once, in order (a digest of all labels)",
            "equal" if found == expected else f"{found} instead of {expected}",
            found == expected,
        ),
    ]


def rehearse(folder: Path, scale: Scale) -> list[Verdict]:
    """Makes the images, times the starts, and trains; returns the table."""
    data = folder / f"{scale.num_images}-images"
    images, archive = data / "train", data / "train.tar"
    make_pictures(images, scale.num_images, scale.num_classes)
    make_archive(archive, images)
    verdicts = []
    for what, source in (("one archive", archive), ("files", images)):
        pair = Pair(_new_folder(folder / "run"), source, scale)
        verdicts.append(time_starts(pair, what))
    seconds = _seconds_of(["-c", "import tensorflow"])
    verdicts.append(Verdict("python -c 'import tensorflow'", f"{seconds:.1f} s"))
    return [*verdicts, *train(pair)]


def main() -> None:
    """Reads the command line, and exits with 1 if a verdict is not met."""
    parser = make_plain_parser(__doc__)
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("/tmp/week-in-an-hour"),
        help="for 10 GB; keeps the images for the next rehearsal; default: %(default)s",
    )
    for name in ("num_images", "epochs", "num_workers", "buffer_size"):
        default = Scale._field_defaults[name]
        parser.add_argument(
            f"--{name}", type=int, default=default, help="default: %(default)s"
        )
    args = vars(parser.parse_args())
    verdicts = rehearse(args.pop("folder"), Scale(**args))
    sys.exit(not report.is_accepted(verdicts))


if __name__ == "__main__":
    main()
