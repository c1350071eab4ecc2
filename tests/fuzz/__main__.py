"""Feeds thousands of damaged and hostile files to everything that reads files.

    python -m tests.fuzz --minutes 40
    python -m tests.fuzz --target tar --minutes 5 --seed 7
    python -m tests.fuzz --target tar --file defects/tar-0001

Valid files of every kind are changed at random: images of each format, archives,
shards, lists, weights, settings, batches, manifests, indices, checkpoints' state.json,
tables, and folders of pipes, devices, sockets and links. The first inputs of a target
are valid files, and files that unpack to as much as is allowed. Each input must be
accepted, or refused by a named error of one printable line, within 10 s, with less than
2 GiB, without a file that is written outside its folder, opened elsewhere for reading,
or a program that is started. Any other input is saved with its message and made
shorter if that is simple. The exit status is 1 if there are any.
"""

import argparse
import collections
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.sandbox import Result, Sandbox, Target, make_input
from tests.fuzz.targets import all_targets

# Of the same defect of a target, so many inputs are saved.
_SAVED_OF_A_KIND = 2

# How many shorter inputs are tried.
_SHORTENINGS = 40


def _kind_of(text: str) -> str:
    """A defect's text without what differs between its inputs."""
    return text[:40] if text.startswith(("hangs", "memory")) else text[:60]


def shorten(
    sandbox: Sandbox, target: Target, data: bytes, kind: str, tries: int = _SHORTENINGS
) -> bytes:
    """Cuts pieces out of an input as long as it shows the same defect."""
    size = len(data) // 2
    while size and tries > 0:
        start = 0
        while start < len(data) and tries > 0:
            shorter = data[:start] + data[start + size :]
            tries -= 1
            (result,) = sandbox.run(target, 0, range(1), shorter)[-1:]
            if result.outcome == "defect" and _kind_of(result.text) == kind:
                data = shorter
            else:
                start += size
        size //= 2
    return data


class Report:
    """Counts what became of a target's inputs, and saves those with a defect."""

    def __init__(self, target: Target, seed: int, folder: Path):
        self.counts: collections.Counter[str] = collections.Counter()
        self.kinds: collections.Counter[str] = collections.Counter()
        self.slowest = self.largest = 0
        self._target, self._seed, self._folder = target, seed, folder
        self._seeds = target.seeds()

    def add(self, result: Result, sandbox: Sandbox) -> None:
        """Counts a result."""
        self.counts[result.outcome] += 1
        self.slowest = max(self.slowest, result.seconds)
        self.largest = max(self.largest, result.peak_bytes)
        if result.outcome != "defect":
            return
        kind = _kind_of(result.text)
        self.kinds[kind] += 1
        if self.kinds[kind] > _SAVED_OF_A_KIND:
            return
        data = make_input(self._target, self._seeds, self._seed, result.index)
        if len(data) < 2**16 and not kind.startswith("hangs"):
            data = shorten(sandbox, self._target, data, kind)
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._target.name}-{self._seed}-{result.index:06d}"
        path.write_bytes(data)
        path.with_suffix(".txt").write_text(result.text + "\n")
        print(f"DEFECT {path} ({len(data):,} bytes): {result.text}", flush=True)

    def line(self) -> str:
        """One line for the target."""
        count = self.counts
        return (
            f"{self._target.name:24} {sum(count.values()):7,} tried "
            f"{count['accepted']:7,} accepted {count['refused']:7,} refused "
            f"{count['defect']:5,} defects   longest {self.slowest:5.2f} s   "
            f"largest {self.largest / 2**20:5,.0f} MiB"
        )


def fuzz(
    target: Target,
    seed: int,
    folder: Path,
    *,
    seconds: float = float("inf"),
    inputs: int = sys.maxsize,
) -> Report:
    """Tries inputs of a target until the time or their number is reached."""
    seeds = target.seeds()  # Once; each child inherits them.
    target = dataclasses.replace(target, seeds=lambda: seeds)
    report = Report(target, seed, folder)
    deadline, index = time.monotonic() + seconds, 0
    with Sandbox() as sandbox:
        while index < inputs and time.monotonic() < deadline:
            left = range(index, inputs)
            results = sandbox.run(target, seed, left, deadline=deadline)
            for result in results:
                report.add(result, sandbox)
            index = results[-1].index + 1
    return report


def main() -> None:
    """Fuzzes each target for its part of the time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=40, help="for all targets")
    parser.add_argument("--inputs", type=int, help="for each target, instead of time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", help="only targets whose names begin so")
    parser.add_argument("--file", type=Path, help="tries this input of the target")
    parser.add_argument(
        "--defects", type=Path, default=Path(tempfile.gettempdir()) / "fuzz-defects"
    )
    args = parser.parse_args()
    targets = [
        target
        for target in all_targets(with_bombs=args.inputs is None)
        if target.name.startswith(args.target or "")
    ]
    if not targets:
        parser.error("--target: there is no such target")
    if args.file:
        with Sandbox() as sandbox:
            (result,) = sandbox.run(targets[0], 0, range(1), args.file.read_bytes())[
                -1:
            ]
            print(result, sandbox.log.read_text(errors="replace"))
            sys.exit(result.outcome == "defect")
    limits = {"seconds": args.minutes * 60 / len(targets)}
    if args.inputs:
        limits = {"inputs": args.inputs}
    total: collections.Counter[str] = collections.Counter()
    for target in targets:
        report = fuzz(target, args.seed, args.defects, **limits)
        total += report.counts
        print(report.line(), flush=True)
    print(
        f"{sum(total.values()):,} inputs of {len(targets)} targets: "
        f"{total['accepted']:,} accepted, {total['refused']:,} refused, "
        f"{total['defect']:,} defects"
    )
    sys.exit(bool(total["defect"]))


if __name__ == "__main__":
    main()
