"""Judges what a rehearsal recorded. No test."""

import itertools
import statistics
from typing import NamedTuple

from tests.rehearsal.programs import Program, Sample
from tests.rehearsal.record import Start, Step

# What a program needs at first: compiled functions, caches, and the allocator's pools.
_WARM_UP_STEPS = 1_000

# A training of 90 epochs of ImageNet has 450,360 steps of 256: 225 MB.
_MAX_GROWTH_BYTES = 0.5e6  # in 1,000 steps

# The speed is compared between the first and the last of so many steps.
_COMPARED_STEPS = 1_000
_MIN_SPEED_RATIO = 0.99

# The buffer is empty when the training starts.
_FIRST_SECONDS = 60.0

# Shorter times are those of the system's scheduler. A step takes 108 ms.
_WAIT_SECONDS = 0.002

# A device that idles for longer, though its batch is there, waits for a checkpoint.
_SAVING_SECONDS = 0.5

_MAX_START_SECONDS = 10.0


class Opening(NamedTuple):
    """How long a start of the preprocessor took, in seconds."""

    listing: float  # until all images are known
    batch: float  # until the first batch is in the buffer


class Restart(NamedTuple):
    """An end of a program, after which it was started again."""

    program: str
    how: str


class Verdict(NamedTuple):
    """A line of the table."""

    what: str
    found: str
    is_met: bool | None = None  # None: only reported


def _longest_life(samples: list[Sample], program: str) -> list[Sample]:
    """The samples of the start with the most steps, after its warm-up."""
    own = [each for each in samples if each.program == program]
    lives = [list(life) for _, life in itertools.groupby(own, lambda each: each.start)]
    life = max(lives, key=lambda life: life[-1].step - life[0].step)
    return [each for each in life if each.step >= life[0].step + _WARM_UP_STEPS]


def _bytes_per_step(samples: list[Sample], batches_per_epoch: int) -> float:
    """The median slope between two samples of an epoch (Theil-Sen estimator).

    So a few jumps are no growth: the order of the next epoch's images, 10 MB, may be
    allocated in new memory, and the kernel may join pages to a huge one.
    """
    return statistics.median(
        (last.unshared - first.unshared) / (last.step - first.step)
        for first, last in itertools.combinations(samples, 2)
        if last.step > first.step
        and (first.step + first.num_ready) // batches_per_epoch
        == (last.step + last.num_ready) // batches_per_epoch
    )


def growth(
    samples: list[Sample], program: str, batches_per_epoch: int
) -> list[Verdict]:
    """Memory, open files and threads in the longest time without a restart."""
    life = _longest_life(samples, program)
    measured = [each for each in life if each.unshared]
    if len(measured) < 10:
        return [Verdict(f"{program}.py: memory", "too few steps")]
    slope = 1000 * _bytes_per_step(measured, batches_per_epoch)
    sizes = [each.unshared / 1e6 for each in measured]
    resident = [each.resident / 1e6 for each in life]
    first, last = (
        # The least: a file that is being read or written is open for a moment.
        [min(values) for values in zip(*counts)]
        for counts in (
            [(s.num_files, s.num_threads, s.num_processes) for s in part]
            for part in (life[: len(life) // 2], life[len(life) // 2 :])
        )
    )
    where = (
        f"{program}.py with its workers, steps {life[0].step:,} to {life[-1].step:,}"
    )
    return [
        Verdict(
            f"{where}: growth of unshared memory in 1,000 steps, within epochs",
            f"{slope / 1e6:+.2f} MB; {sizes[0]:.0f} MB at first, {sizes[-1]:.0f} MB at "
            f"last, at most {max(sizes):.0f}; "
            f"resident {resident[0]:.0f} and {resident[-1]:.0f} MB",
            slope <= _MAX_GROWTH_BYTES,
        ),
        Verdict(
            f"{where}: open files, threads, processes, the least in each half",
            f"{first[0]}, {first[1]}, {first[2]}; {last[0]}, {last[1]}, {last[2]}",
            all(b <= a for a, b in zip(first, last)),
        ),
    ]


def _late_steps(start: Start) -> list[Step]:
    """The steps of a start after its first minute."""
    return [
        s for s in start.steps if s.started > start.steps[0].started + _FIRST_SECONDS
    ]


def _speed(steps: list[Step]) -> float:
    """Steps in a second, without the time in which checkpoints are saved."""
    saving = (s.idle - s.waited for s in steps[1:])
    seconds = steps[-1].started - steps[0].started
    seconds -= sum(each for each in saving if each > _SAVING_SECONDS)
    return (len(steps) - 1) / seconds


def speed(starts: list[Start], step_seconds: float) -> list[Verdict]:
    """Of the first and the last steps."""
    first = _late_steps(starts[0])[:_COMPARED_STEPS]
    last = starts[-1].steps[-_COMPARED_STEPS:]
    if len(first) < _COMPARED_STEPS or len(last) < _COMPARED_STEPS:
        return [Verdict("speed", "too few steps")]
    before, after = _speed(first), _speed(last)
    return [
        Verdict(
            f"steps/s of {_COMPARED_STEPS:,} steps after the first minute, and of the "
            "last ones, without the time of checkpoints",
            f"{before:.3f} and {after:.3f}, ratio {after / before:.4f}; the stand-in "
            f"does {1 / step_seconds:.3f}",
            after / before >= _MIN_SPEED_RATIO,
        )
    ]


def waits(starts: list[Start]) -> list[Verdict]:
    """Of the device for batches.

    While the device works on a step, the loop may wait for the next batch: that costs
    no time.
    """
    every = [step for start in starts for step in start.steps]
    late = [step for start in starts for step in _late_steps(start)]
    first = f"after the first minute of each of {len(starts)} starts"
    lost = [min(step.waited, step.idle) for step in late]
    return [
        Verdict(
            f"steps for whose batch the device waited {first}",
            _times(lost),
            not any(seconds > _WAIT_SECONDS for seconds in lost),
        ),
        Verdict(
            "the same, of batches that did not exist yet",
            _times([min(s.waited, s.idle) for s in late if s.missing]),
        ),
        Verdict(
            "for any batch, with the first minutes",
            _times([min(step.waited, step.idle) for step in every]),
        ),
        Verdict(
            f"steps for whose batch the loop waited {first}",
            _times([step.waited for step in late]),
        ),
        Verdict(
            f"steps before which the device had nothing to do {first}, as while a "
            "checkpoint was saved",
            _times([step.idle for step in late]),
        ),
    ]


def fewest_ready(samples: list[Sample], trainer: str) -> Verdict:
    """How full the buffer was after the first minute of each start of the trainer."""
    started: dict[int, float] = {}
    late = [
        each.num_ready
        for each in samples
        if each.program == trainer
        and each.at > started.setdefault(each.start, each.at) + _FIRST_SECONDS
    ]
    return Verdict(
        "batches in the buffer after the first minutes, at least",
        f"{min(late):,}" if late else "too few steps",
    )


def _times(values: list[float]) -> str:
    """How many of some times are not short, their sum, and the longest."""
    found = [value for value in values if value > _WAIT_SECONDS]
    text = f"{len(found):,} of {len(values):,}"
    return f"{text}; {sum(found):.2f} s, at most {max(found):.3f}" if found else text


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values) + " s"


def trainer_starts(trainer: Program, starts: list[Start]) -> list[Verdict]:
    """How long each start of the trainer took to its first step."""
    pairs = list(zip(trainer.started, starts, strict=True))
    seconds = [start.steps[0].started - at for at, start in pairs]
    loading = [start.loading_seconds for start in starts]
    others = [a - b for a, b in zip(seconds, loading)]
    return [
        Verdict(
            "train.py: from its start, and from each resume, to the first step",
            _listed(seconds),
            max(seconds) < _MAX_START_SECONDS,
        ),
        Verdict(
            "the same without the time in which TensorFlow loads",
            f"{_listed(others)}; TensorFlow: {_listed(loading)}",
            max(others) < _MAX_START_SECONDS,
        ),
    ]


def listings(seconds: list[float]) -> Verdict:
    """How long each start of the preprocessor took in the training."""
    return Verdict(
        "runtime_preprocessing.py in the training, each start: to the list of images",
        _listed(seconds),
        max(seconds) < _MAX_START_SECONDS,
    )


def opening(what: str, openings: list[Opening]) -> Verdict:
    """How long the preprocessor took; the first start has no index of the images."""
    return Verdict(
        f"runtime_preprocessing.py, {what}: from its start to the list of the images, "
        "and to the first batch",
        "; ".join(f"{each.listing:.1f} and {each.batch:.1f} s" for each in openings),
        max(each.batch for each in openings[1:]) < _MAX_START_SECONDS,
    )


def is_accepted(verdicts: list[Verdict]) -> bool:
    """Prints the table; whether no verdict is false."""
    words = {True: "met", False: "NOT MET", None: ""}
    print("\n| what | found | verdict |\n|---|---|---|")
    for what, found, is_met in verdicts:
        print(f"| {what} | {found} | {words[is_met]} |")
    return all(verdict.is_met is not False for verdict in verdicts)
