"""What a checksum of a batch's values costs, next to reading them.

    python3 -m benchmarks.batch_checksums [--folder /dev/shm] [--batch_size 256]

Reads values as the trainer does, in pieces that fit the processor's cache, with and
without a checksum of each piece. "sum" adds the bytes as 64-bit integers, which batch
files have; "crc32" is zlib's; "xxh3" needs the package xxhash, and is left out without
it; "finite" compares float values with infinity, as the trainer did before. Prints the
medians of the ratios of processor time.
"""

import argparse
import statistics
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

from resnet50.handoff.npy_file import RecycledMemory

_CHUNK_BYTES = 2**18


def _find_infinity(state: int, piece: np.ndarray) -> int:
    # The bit patterns of infinity and NaN are the largest of either sign.
    positive = np.maximum.reduce(piece.view(np.int16)) < 0x7C00
    return positive and np.maximum.reduce(piece.view(np.uint16)) < 0xFC00


def checksums() -> dict:
    """For each checksum, a function from its state and uint8 [bytes] to its state."""
    functions = {
        "none": lambda state, piece: 0,
        "sum": lambda state, piece: state + int(np.add.reduce(piece.view(np.uint64))),
        "finite": _find_infinity,
        "crc32": lambda state, piece: zlib.crc32(piece, state),
    }
    try:
        import xxhash
    except ImportError:
        return functions
    # Seeded with the state so far, which costs as much as updating one object.
    functions["xxh3"] = lambda state, piece: xxhash.xxh3_64_intdigest(piece, state)
    return functions


def measure(path: Path, num_bytes: int, update, memory: RecycledMemory) -> float:
    """Processor seconds for a batch."""
    started = time.process_time()
    values, state = memory.empty((num_bytes,), np.uint8), 0
    with path.open("rb") as file:
        for start in range(0, num_bytes, _CHUNK_BYTES):
            piece = values[start : start + _CHUNK_BYTES]
            file.readinto(piece)
            state = update(state, piece)
    return time.process_time() - started


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
    num_values = args.batch_size * args.crop_size**2 * 3
    rng, memory, functions = np.random.default_rng(0), RecycledMemory(), checksums()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "batch"
        for dtype in ("float16", "uint8"):
            values = rng.integers(0, 256, num_values).astype(dtype)
            values.tofile(path)
            ratios = {name: [] for name in functions}
            for _ in range(args.rounds):
                seconds = {
                    name: measure(path, values.nbytes, update, memory)
                    for name, update in functions.items()
                }
                for name, value in seconds.items():
                    ratios[name].append(value / seconds["none"])
            for name, found in ratios.items():
                print(f"{dtype:8} {name:7} {statistics.median(found):.3f}")


if __name__ == "__main__":
    main()
