"""The status of a running pair of programs.

    python -m resnet50 status

Prints which of the two programs runs, the trainer's position and speed, how full the
buffer is, the time left, the disk use and the images that could not be read. Only
reads, so it can run at any time, whether the programs run or not. The run is the one
that is being trained in saved_models_folder of config.txt, or --run_folder.
"""

from resnet50 import command_line
from resnet50.config.settings import ConfigError
from resnet50.handoff.buffer import BatchBuffer
from resnet50.reports.pair_status import PairStatus, find_trained_run


def main() -> None:
    """Watches the trainer for some seconds, and prints the status."""
    parser = command_line.make_parser(__doc__)
    parser.add_argument("--run_folder", help="default: the run being trained")
    parser.add_argument(
        "--epoch_end", type=int, help="default: epochs in [train] of config.txt"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        help="how long to watch the trainer for its speed; default: 5",
    )
    args = parser.parse_args()
    if not 0 < args.seconds <= 3600:
        raise ConfigError(f"--seconds = {args.seconds:g} (must be above 0, to 3600)")
    config = command_line.load_config(args)
    epoch_end = config.train.epochs if args.epoch_end is None else args.epoch_end
    if epoch_end < 1:
        raise ConfigError(f"--epoch_end = {epoch_end} (must be at least 1)")
    if args.run_folder is None:
        run_folder = find_trained_run(config.train.saved_models_folder)
    else:
        run_folder = command_line.run_folder(args, config)
        if not run_folder.is_dir():
            raise ConfigError(f"{run_folder}: there is no such run (see --run_folder)")
    buffer = BatchBuffer(config.train.buffer_folder)
    status = PairStatus(config, buffer, run_folder, epoch_end)
    print(*status.lines(args.seconds), sep="\n")
