"""What the network learns, on a machine without ImageNet.

    python3 -m benchmarks.learning photographs --images DIR
    python3 -m benchmarks.learning digits --seeds 3

``photographs`` trains with the two scripts as two processes until it knows every
photograph of a folder by heart. ``digits`` compares with Keras on held-out images; it
needs the extras `bench` and `tests`.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

from benchmarks.environment import cpu_model, versions


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    benchmarks = parser.add_subparsers(dest="benchmark", required=True)
    photographs = benchmarks.add_parser("photographs")
    photographs.add_argument(
        "--images", type=Path, help="class folders; default: 200 generated photographs"
    )
    photographs.add_argument(
        "--folder", type=Path, help="new, for all files; default: a temporary one"
    )
    digits = benchmarks.add_parser("digits")
    digits.add_argument("--seeds", type=int, default=3, help="at least 2; default: 3")
    args = parser.parse_args()
    if args.benchmark == "digits" and args.seeds < 2:
        parser.error("--seeds must be at least 2")
    return args


def main() -> None:
    """Prints what it runs on, and runs it."""
    args = parse_arguments()
    words = ["python3", "-m", "benchmarks.learning", *sys.argv[1:]]
    print(f"command:  {shlex.join(words)}")
    print(f"hardware: {cpu_model()}, {os.cpu_count()} cores")
    print(f"load:     {os.getloadavg()[0]:.1f} at the start")
    packages = ["tensorflow", "numpy", "pillow", "simplejpeg"]
    if args.benchmark == "digits":
        packages = ["tensorflow", "keras", "numpy", "scikit-learn"]
    print(f"versions: {versions(*packages)}", flush=True)
    # TensorFlow is heavy: only the process that computes with it loads it.
    if args.benchmark == "digits":
        from benchmarks.learning import digits

        digits.run(args.seeds)
    else:
        from benchmarks.learning import photographs

        photographs.run(args.images, args.folder)


if __name__ == "__main__":
    main()
