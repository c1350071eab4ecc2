"""Cuts the power at every moment, in a model; the programs must recover from it.

    python -m tests.power_cut
    python -m tests.power_cut --model journal
    python -m tests.power_cut --sample 300 --seed 1

Runs the two scripts, with a tiny network, under a recorder of file operations: a new
run, Ctrl-C, a resumed run, evaluations, and a run with other settings. Builds each
state that a power cut may leave between two operations (see disk.py) and judges it (see
invariants.py). Then puts it on a disk, and starts the programs again as a user would.
They must end without an error, resume from the checkpoint that was announced last or a
later one, and reach bitwise the weights of an undisturbed run. Needs strace.
"""

import argparse
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.power_cut import scenario
from tests.power_cut.disk import MODELS
from tests.power_cut.invariants import faults, recorded_batches
from tests.power_cut.recorder import Operation, RecorderError, record
from tests.power_cut.recovery import FailedRecoveryError, Machine, Result, write_state
from tests.power_cut.states import Cut, enumerate_cuts

_REPORT_EVERY = 100  # recoveries


def record_session(folder: Path, length: str = "long") -> list[Operation]:
    """Plays the long or the short session in a new folder; returns its operations.

    Raises:
        RecorderError: It cannot be recorded.
    """
    folder.mkdir()
    scenario.prepare(folder)
    return record(folder, "tests.power_cut.scenario", length, str(folder))


def without_fsync(operations: list[Operation], pattern: str) -> list[Operation]:
    """What programs would have done that lack fsync for paths with a pattern."""
    found = re.compile(pattern)
    return [o for o in operations if o.kind != "fsync" or not found.search(o.path)]


def recover_all(
    cuts: list[Cut],
    reference: dict[str, Result],
    machines: list[Machine],
    report: Callable[[int, int], None] = lambda num_done, num_failed: None,
) -> list[tuple[Cut, str]]:
    """Recovers from each cut on one of the machines; returns the failures."""
    failures: list[tuple[Cut, str]] = []
    idle: SimpleQueue[Machine] = SimpleQueue()
    for machine in machines:
        idle.put(machine)

    def recover(cut: Cut) -> str:
        machine = idle.get()
        try:
            machine.recover(cut, reference)
        except FailedRecoveryError as error:
            return str(error)
        finally:
            idle.put(machine)
        return ""

    with ThreadPoolExecutor(len(machines)) as pool:
        errors = pool.map(recover, cuts)
        for num_done, (cut, error) in enumerate(zip(cuts, errors), start=1):
            if error:
                failures.append((cut, error))
            report(num_done, len(failures))
    return failures


def _keep(folder: Path, failures: list[tuple[Cut, str]]) -> None:
    """Writes the failing states into a folder, each with its story."""
    for number, (cut, error) in enumerate(failures, start=1):
        target = folder / f"{number:04d}"
        write_state(cut.state, target / "work")
        (target / "report.txt").write_text(
            f"after: {cut.after}\nsurvived: {cut.survived}\n"
            f"announced: {cut.promises}\nstarted: {cut.trial}\n\n{error}\n"
        )


def main() -> None:
    """Reads the command line and prints the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="posix")
    parser.add_argument("--sample", type=int, default=0, help="0: every state")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument(
        "--without_fsync",
        metavar="REGEX",
        help="as if the programs lacked fsync for these paths, such as '/one$', the "
        "folder of a run: some states must then fail",
    )
    parser.add_argument("--machines", type=int, default=2, help="recoveries at a time")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="start new processes each time, as users do: ten times slower",
    )
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="power-cut-"))
    try:
        operations = record_session(folder / "recorded")
    except RecorderError as error:
        sys.exit(f"the session cannot be recorded: {error}")
    if args.without_fsync:
        operations = without_fsync(operations, args.without_fsync)
    found = enumerate_cuts(operations, args.model)
    cuts = found.cuts
    print(
        f"{args.model}: {len(operations):,} operations, {found.num_states:,} states, "
        f"{found.num_distinct:,} distinct, {len(cuts):,} to recover from",
        flush=True,
    )
    batches = recorded_batches(operations)
    judged = [(cut, faults(cut, batches)) for cut in cuts]
    failures = [(cut, "\n".join(sorted(found))) for cut, found in judged if found]
    print(f"judged without a start: {len(failures):,} are wrong", flush=True)
    if args.sample and args.sample < len(cuts):
        cuts = random.Random(args.seed).sample(cuts, args.sample)
    machines = [
        Machine(
            folder / f"machine-{n}",
            folder / "recorded/images",
            is_served=not args.fresh,
        )
        for n in range(args.machines)
    ]
    reference = machines[0].reference()
    started = time.monotonic()

    def report(num_done: int, num_failed: int) -> None:
        if num_done % _REPORT_EVERY == 0:
            seconds = time.monotonic() - started
            print(f"{seconds:6.0f} s: {num_done} done, {num_failed} failed", flush=True)

    failed = recover_all(cuts, reference, machines, report)
    print(f"recovered from {len(cuts) - len(failed):,} of {len(cuts):,}", flush=True)
    failures += failed
    _keep(folder / "failures", failures)
    for machine in machines:
        machine.close()
    if not failures:
        shutil.rmtree(folder)
        return
    kinds = Counter(error.splitlines()[-1] for _, error in failures)
    for line, count in kinds.most_common():
        print(f"{count:6}  {line}")
    for cut, error in failures[:20]:
        print(f"\ncut after: {cut.after}\nsurvived: {cut.survived}\n{error}")
    sys.exit(f"the failing states are in {folder / 'failures'}")


if __name__ == "__main__":
    main()
