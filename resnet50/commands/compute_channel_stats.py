"""Computes the mean and standard deviation of each channel over all training images.

    python3 compute_channel_stats.py --write

Prints the two lines for [dataset] in config.txt; --write writes them into that file, or
into the one that --config names.
"""

import argparse

from resnet50 import command_line
from resnet50.config.settings import ConfigError
from resnet50.config.toml_file import write_channel_statistics
from resnet50.dataset.images import DatasetError
from resnet50.dataset.listing import open_training_set
from resnet50.errors import printable_line
from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.preprocessing.channel_stats import statistics_of, sum_dataset
from resnet50.preprocessing.process_pool import worker_pool
from resnet50.terminal import progress_bar, say


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = command_line.make_parser(__doc__, "num_workers")
    parser.add_argument(
        "--write", action="store_true", help="put the two lines into the --config file"
    )
    return parser


def main() -> None:
    """Computes and prints the statistics, and writes them if asked to."""
    args = build_parser().parse_args()
    config = command_line.load_config(args)
    dataset = open_training_set(config.dataset, config.train.buffer_folder, say)
    say(dataset.summary)
    with (
        worker_pool(config.runtime_preprocessing.num_workers) as pool,
        progress_bar(total=dataset.num_images, unit=" images") as bar,
    ):
        total = sum_dataset(dataset, pool, bar.update)
    if len(total.unreadable) == dataset.num_images:
        path, reason = total.unreadable[0]
        raise DatasetError(
            f"{dataset.folder}: none of the {dataset.num_images} images can be read; "
            f"the first is {path}: {reason}"
        )
    exact = statistics_of(total)
    statistics = ChannelStatistics(
        *(tuple(round(v, 6) for v in part) for part in exact)
    )
    for name, values in statistics._asdict().items():
        print(f"channel_{name} = [{', '.join(map(str, values))}]")
    if min(statistics.std) == 0:
        raise ConfigError(
            "channel_std: a channel is the same everywhere, nothing can be divided by "
            "its standard deviation of 0 (are these the right images?)"
        )
    if args.write:
        write_channel_statistics(args.config, *statistics)
        print(f"written to {args.config}")
    for path, reason in total.unreadable:
        print(printable_line(f"unreadable: {path}: {reason}"))
    if total.unreadable:
        print(f"{len(total.unreadable)} images could not be read and do not count")
