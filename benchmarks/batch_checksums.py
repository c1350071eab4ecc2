"""What a checksum of each batch would cost, next to reading the batch.

    python3 -m benchmarks.batch_checksums [--folder /dev/shm] [--batch_size 256]

Reads a batch as the trainer does, in pieces that fit the processor's cache, with and
without a checksum of each piece. "sum" adds the bytes as 64-bit integers, the cheapest
checksum that notices every single flipped byte; "crc32" is zlib's; "xxh3" needs the
package xxhash, and is left out without it. Prints the median ratios of processor time.
"""

import argparse
import statistics
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

from resnet50.handoff import npy_file
from resnet50.handoff.npy_file import RecycledMemory, load_array


def checksums() -> dict:
    """For each checksum, a function that updates its state with uint8 [bytes]."""
    functions = {
        "none": lambda state, piece: 0,
        "sum": lambda state, piece: state + int(piece.view(np.uint64).sum()),
        "crc32": lambda state, piece: zlib.crc32(piece, state),
    }
    try:
        import xxhash
    except ImportError:
        return functions
    # Seeded with the state so far, which costs as much as updating one object.
    functions["xxh3"] = lambda state, piece: xxhash.xxh3_64_intdigest(piece, state)
    return functions


def measure(path: Path, shape: tuple, dtype: str, update, memory) -> float:
    """Processor seconds for a batch."""
    is_finite, state = npy_file._is_finite, 0

    def check(piece, kind):
        nonlocal state
        state = update(state, piece)
        return is_finite(piece, kind)

    npy_file._is_finite = check
    try:
        started = time.process_time()
        load_array(path, shape, dtype, memory.empty)
        return time.process_time() - started
    finally:
        npy_file._is_finite = is_finite


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", default="/dev/shm", help="where the batch is")
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--crop_size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=15)
    return parser.parse_args()


def main() -> None:
    """Prints a line for each dtype and checksum."""
    args = parse_arguments()
    shape = args.batch_size, args.crop_size, args.crop_size, 3
    rng, memory, functions = np.random.default_rng(0), RecycledMemory(), checksums()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "batch.npy"
        for dtype in ("float16", "uint8"):
            np.save(path, rng.integers(0, 256, shape).astype(dtype))
            ratios = {name: [] for name in functions}
            for _ in range(args.rounds):
                seconds = {
                    name: measure(path, shape, dtype, update, memory)
                    for name, update in functions.items()
                }
                for name, value in seconds.items():
                    ratios[name].append(value / seconds["none"])
            for name, values in ratios.items():
                print(f"{dtype:8} {name:6} {statistics.median(values):.3f}")


if __name__ == "__main__":
    main()
