"""Measures what the network learns, on a machine without ImageNet.

    python3 -m benchmarks.learning photographs --images DIR
    python3 -m benchmarks.learning fine_tuning
    python3 -m benchmarks.learning digits --seeds 3
    python3 -m benchmarks.learning torch --images DIR --seeds 3

``photographs`` overfits a folder's photographs, with the two scripts as two processes.
``fine_tuning`` compares imported weights with random ones on four new classes.
``digits`` compares the network with Keras', and ``torch`` with PyTorch's, on held-out
images; they need the extra `bench`.
"""

import argparse
import os
import shlex
import sys
import time
from pathlib import Path

from benchmarks.environment import cpu_model, versions
from benchmarks.learning import fine_tuning, photographs
from benchmarks.peers.torchvision_programs import import_torchvision


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    benchmarks = parser.add_subparsers(dest="benchmark", required=True)
    by_heart = benchmarks.add_parser("photographs")
    by_heart.add_argument(
        "--images", type=Path, help="class folders; default: 200 generated photographs"
    )
    by_heart.add_argument(
        "--folder",
        type=Path,
        help="new folder for all files; default: a temporary one",
    )
    tuned = benchmarks.add_parser("fine_tuning")
    tuned.add_argument("--epochs", type=int, default=10)
    tuned.add_argument("--folder", type=Path, help="as for photographs")
    beside_keras = benchmarks.add_parser("digits")
    beside_keras.add_argument("--seeds", type=int, default=3, help="2 or more")
    beside_torch = benchmarks.add_parser("torch")
    beside_torch.add_argument(
        "--images",
        type=Path,
        required=True,
        help="folder with train/ and val/, which have one folder per class",
    )
    beside_torch.add_argument("--epochs", type=int, default=6)
    beside_torch.add_argument("--seeds", type=int, default=3, help="2 or more")
    args = parser.parse_args()
    if args.benchmark in ("digits", "torch") and args.seeds < 2:
        parser.error("--seeds must be at least 2")
    if getattr(args, "folder", None) and args.folder.exists():
        parser.error(f"--folder {args.folder}: exists already")
    return args


def run_beside_others(args: argparse.Namespace) -> None:
    """Imports the packages of the extra, and runs ``digits`` or ``torch``."""
    try:
        if args.benchmark == "torch":
            import_torchvision()  # Before TensorFlow, after which some builds crash.
            from benchmarks.learning import beside_torch

            beside_torch.run(args.images, args.epochs, args.seeds)
        else:
            from benchmarks.learning import digits

            digits.run(args.seeds)
    except ImportError as error:
        sys.exit(f"{error} (pip install -e '.[bench]')")


def main() -> None:
    """Prints the hardware and the versions, and runs the benchmark."""
    args = parse_arguments()
    words = ["python3", "-m", "benchmarks.learning", *sys.argv[1:]]
    print(f"command:  {shlex.join(words)}")
    print(f"hardware: {cpu_model()}, {os.cpu_count()} cores")
    print(f"load:     {os.getloadavg()[0]:.1f} at the start")
    packages = ["tensorflow", "numpy", "pillow", "simplejpeg"]
    if args.benchmark == "digits":
        packages = ["tensorflow", "keras", "numpy", "scikit-learn"]
    if args.benchmark == "torch":
        packages = ["tensorflow", "torch", "torchvision", "numpy"]
    print(f"versions: {versions(*packages)}", flush=True)
    started = time.monotonic()
    if args.benchmark == "photographs":
        photographs.run(args.images, args.folder)
    elif args.benchmark == "fine_tuning":
        fine_tuning.run(args.epochs, args.folder)
    else:
        run_beside_others(args)
    minutes = (time.monotonic() - started) / 60
    print(f"load:     {os.getloadavg()[0]:.1f} at the end, after {minutes:.1f} min")


if __name__ == "__main__":
    main()
