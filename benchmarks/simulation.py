"""A discrete-event simulation of the two programs, without files and images.

    python3 -m benchmarks.simulation [--seconds 600]

It has the loops of the real programs. The refill lists the buffer, queues twice as many
batches as there are workers, and sleeps for sleep_time if there is nothing to do. The
reader polls every sleep_time of [train] and holds read_ahead batches. The trainer takes
one batch per step. Each of several hosts has all of these and its own buffer. Their
trainers meet before each step, until all have a batch, and after it, to sum the
gradients.

The same seed gives the same run. The simulation predicts the cost of the protocol only,
because real programs also share processors, memory and disk. docs/measurements.md
compares it with measurements. ``benchmarks.many_hosts`` applies it to up to 128 hosts.
"""

import argparse
import collections
import dataclasses
import heapq
import itertools
import math
import random
from collections.abc import Generator
from typing import NamedTuple


@dataclasses.dataclass(frozen=True)
class Settings:
    """The parameters of a run, in seconds and batches."""

    num_workers: int
    make_seconds: float  # a worker's mean time for one batch
    step_seconds: float  # the trainer's time for one batch
    buffer_size: int
    spread: float = 0.05  # standard deviation of make_seconds, relative
    keeps_pace: bool = False  # a wait shortens the step after it: benchmarks.handoff
    refill_below: float = 0.8
    refill_sleep_seconds: float = 10.0
    list_seconds: float = 0.002  # a listing of the folder
    reader_sleep_seconds: float = 0.1
    read_seconds: float = 0.007
    read_ahead: int = 4
    pause_start: float = math.inf  # no batches are made from this time
    pause_seconds: float = 0.0  # for this long
    starts_full: bool = False
    num_hosts: int = 1
    make_factors: tuple[float, ...] = ()  # of make_seconds, for each host; none: 1
    step_spread: float = 0.0  # standard deviation of a host's step_seconds, relative
    sum_seconds: float = 0.0  # added to each step, for the sums over all hosts
    seed: int = 0


class Outcome(NamedTuple):
    """The result of a run."""

    num_trained: int
    num_made: int  # by all hosts
    waited_seconds: float  # for the batches of all hosts, after the first step
    lowest_buffer: int  # fewest ready batches since the buffers were first full


class Signal:
    """An event that processes wait for."""

    def __init__(self):
        self.waiting: list[tuple[_Process, int]] = []


# A process yields how long it sleeps at most, and the signal that wakes it earlier.
Wait = tuple[float, Signal | None]


class _Process:
    def __init__(self, steps: Generator[Wait, None, None]):
        self.steps = steps
        self.num_waits = 0


class Events:
    """Runs processes in the order of simulated time."""

    def __init__(self):
        self.now = 0.0
        self._order = itertools.count()  # Orders entries of equal times.
        self._heap: list[tuple[float, int, _Process, int]] = []

    def start(self, steps: Generator[Wait, None, None]) -> None:
        """Starts a process."""
        self._push(0.0, _Process(steps), 0)

    def fire(self, signal: Signal) -> None:
        """Wakes all processes that wait for a signal."""
        waiting, signal.waiting = signal.waiting, []
        for process, num_waits in waiting:
            self._push(0.0, process, num_waits)

    def run(self, seconds: float) -> None:
        """Runs up to a time."""
        while self._heap and self._heap[0][0] <= seconds:
            self.now, _, process, num_waits = heapq.heappop(self._heap)
            if num_waits == process.num_waits:  # Else it was woken.
                process.num_waits += 1
                delay, signal = next(process.steps)
                self._push(delay, process, process.num_waits)
                if signal is not None:
                    signal.waiting.append((process, process.num_waits))

    def _push(self, delay: float, process: _Process, num_waits: int) -> None:
        if delay < math.inf:
            entry = self.now + delay, next(self._order), process, num_waits
            heapq.heappush(self._heap, entry)


class _Meeting:
    """A place where the hosts wait until all of them have come."""

    def __init__(self, events: Events, num_hosts: int):
        self._events, self._num_hosts = events, num_hosts
        self._num_there = 0
        self._all_there = Signal()

    def wait(self) -> Generator[Wait, None, None]:
        """Waits; does not wait if this host is the last one."""
        self._num_there += 1
        if self._num_there < self._num_hosts:
            yield math.inf, self._all_there
        else:
            self._num_there = 0
            self._events.fire(self._all_there)


class _Host:
    """The two programs. Steps are numbered from 0, as in handoff.progress."""

    def __init__(
        self, index: int, settings: Settings, events: Events, meeting: _Meeting
    ):
        self._settings = settings
        self._events = events
        self._meeting = meeting
        self._make_seconds = settings.make_seconds
        if settings.make_factors:
            self._make_seconds *= settings.make_factors[index]
        # A generator for each purpose: the batches do not depend on step_spread.
        seed = f"{settings.seed} {index}" if index else settings.seed
        self._random = random.Random(seed)
        self._step_random = random.Random(f"{seed} steps")
        full = settings.buffer_size if settings.starts_full else 0
        self._ready = set(range(full))
        self._next_step = full  # All steps below are made or queued.
        self._first_gap = full  # All steps below are ready.
        self.progress = 0  # Published by the trainer.
        self._running = 0
        self._num_done = 0  # Not yet seen by the refill.
        self._line: collections.deque[int] = collections.deque()
        self._held: collections.deque[int] = collections.deque()  # In the reader.
        self._work, self._done, self._arrived, self._taken = (Signal() for _ in "1234")
        self.num_made = 0
        self.waited = 0.0
        self._was_full = settings.starts_full
        self.lowest = full

    def start(self) -> None:
        """Starts the loops of both programs."""
        for _ in range(self._settings.num_workers):
            self._events.start(self._worker())
        for steps in self._refill(), self._reader(), self._trainer():
            self._events.start(steps)

    def _making_seconds(self) -> float:
        """How long the next batch takes, including the pause if it overlaps."""
        settings, now = self._settings, self._events.now
        duration = self._make_seconds
        duration *= max(0.1, self._random.gauss(1.0, settings.spread))
        pause_end = settings.pause_start + settings.pause_seconds
        if now < pause_end and now + duration > settings.pause_start:
            duration += pause_end - max(now, settings.pause_start)
        return duration

    def _worker(self):
        while True:
            if not self._line:
                yield math.inf, self._work
                continue
            step = self._line.popleft()
            yield self._making_seconds(), None
            self._ready.add(step)
            self.num_made += 1
            self._num_done += 1
            self._events.fire(self._done)

    def _num_ahead(self) -> int:
        """Ready batches without a gap, counted like refill.plan_refill."""
        while self._first_gap in self._ready:
            self._ready.discard(self._first_gap)
            self._first_gap += 1
        return self._first_gap - self.progress

    def _refill(self):
        """Mirrors resnet50.preprocessing.refill.Refill._run_with."""
        settings, is_refilling = self._settings, True
        while True:
            yield settings.list_seconds, None
            num_ahead = self._num_ahead()
            missing = self.progress + settings.buffer_size - self._next_step
            if num_ahead < settings.refill_below * settings.buffer_size:
                is_refilling = True
            if missing <= 0:
                is_refilling = False
            if is_refilling:
                room = 2 * settings.num_workers - self._running
                for _ in range(min(missing, room)):
                    self._line.append(self._next_step)
                    self._next_step += 1
                    self._running += 1
                self._events.fire(self._work)
            if self._running and not self._num_done:
                yield settings.refill_sleep_seconds, self._done
            elif not self._running:
                yield settings.refill_sleep_seconds, None
            self._running -= self._num_done
            self._num_done = 0

    def _reader(self):
        """Mirrors resnet50.handoff.reader.BatchReader."""
        settings = self._settings
        for step in itertools.count():
            while step >= self._first_gap and step not in self._ready:
                yield settings.reader_sleep_seconds, None
            yield settings.read_seconds, None
            while len(self._held) >= settings.read_ahead:
                yield math.inf, self._taken
            self._held.append(step)
            self._events.fire(self._arrived)

    def _step_seconds(self) -> float:
        mean, spread = self._settings.step_seconds, self._settings.step_spread
        return mean * max(0.1, self._step_random.gauss(1.0, spread)) if spread else mean

    def _trainer(self):
        """Mirrors resnet50.training.loop.Loop, and JointReader on several hosts."""
        for step in itertools.count():
            asked = self._events.now
            while not self._held:
                yield math.inf, self._arrived
            self._held.popleft()
            self._events.fire(self._taken)
            yield from self._meeting.wait()
            waited = self._events.now - asked
            self.waited += waited * (step > 0)
            rest = self._step_seconds()
            if self._settings.keeps_pace:
                # benchmarks.handoff publishes a step before it, not after it.
                self.progress = step + 1
                rest = max(0.0, rest - waited)
            yield rest, None
            yield from self._meeting.wait()
            if self._settings.sum_seconds:
                yield self._settings.sum_seconds, None
            self.progress = step + 1
            level = self._num_ahead()
            self._was_full |= level >= self._settings.buffer_size - 1
            self.lowest = min(self.lowest, level) if self._was_full else level


class Simulation:
    """All hosts."""

    def __init__(self, settings: Settings):
        self._events = Events()
        meeting = _Meeting(self._events, settings.num_hosts)
        self._hosts = [
            _Host(index, settings, self._events, meeting)
            for index in range(settings.num_hosts)
        ]

    def run(self, seconds: float) -> Outcome:
        """Simulates from the start of all programs."""
        for host in self._hosts:
            host.start()
        self._events.run(seconds)
        first = self._hosts[
            0
        ]  # All wait equally long: until the last one has its batch.
        return Outcome(
            first.progress,
            sum(host.num_made for host in self._hosts),
            first.waited,
            min(host.lowest for host in self._hosts),
        )


def share_waited(settings: Settings, seconds: float) -> float:
    """The share of the time that the trainer waits."""
    return Simulation(settings).run(seconds).waited_seconds / seconds


def main() -> None:
    """Prints the two figures of benchmarks.handoff."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="simulated")
    seconds = parser.parse_args().seconds
    # The setting of benchmarks.handoff: one worker with 430 images/s.
    make_seconds = 64 / 430
    bench = Settings(
        1, make_seconds, 2 * make_seconds, buffer_size=60, refill_sleep_seconds=0.2
    )
    print(f"waiting, trainer at half       {share_waited(bench, seconds):7.2%}")
    fast = dataclasses.replace(bench, step_seconds=make_seconds / 2)
    made = Simulation(fast).run(seconds).num_trained * make_seconds / seconds
    print(f"throughput, trainer at twice   {made:7.2f}")


if __name__ == "__main__":
    main()
