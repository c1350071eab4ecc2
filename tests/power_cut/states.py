"""The states that a power cut may leave of a recorded session, each once."""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from resnet50.handoff.progress import Position
from tests.power_cut.disk import Disk, State
from tests.power_cut.recorder import Operation

# A cut before and after each of these.
_CUTS = {"fsync", "rename", "unlink", "rmdir", "mkdir"}

# What the user starts again after a cut in each phase: see recovery.Machine.recover.
_TRIALS = {
    "": ("one",),
    "start": ("one",),
    "resume": ("one",),
    "evaluate": ("evaluate",),
    "refill": ("three",),
    "change": ("two", "three"),
}

_TEMPORARY = re.compile(r"(.*?\.writing-)[0-9a-f]{32}([^/]*)(/.*)?")
_SAVED = re.compile(rb"saved (\w+) ([0-9]+) ([0-9]+)\n")
_EVALUATED = re.compile(rb"epoch [0-9]+: top-1 .* ([0-9]+) crops?,")


class Promises(NamedTuple):
    """What the programs have announced, so that no power cut may take it away."""

    phase: str = ""
    saved: tuple[tuple[str, Position], ...] = ()  # the newest checkpoint of each run
    evaluated: tuple[int, ...] = ()  # crops per image, for each row

    def after(self, operation: Operation) -> "Promises":
        """The promises after another line of a program."""
        data, found = operation.data, self
        if operation.kind != "say":
            return self
        if operation.path == "phases":
            found = found._replace(phase=data.split()[1].decode())
        for run, epoch, batch in _SAVED.findall(data):
            saved = dict(found.saved) | {run.decode(): Position(int(epoch), int(batch))}
            found = found._replace(saved=tuple(saved.items()))
        for crops in _EVALUATED.findall(data):
            found = found._replace(evaluated=(*found.evaluated, int(crops)))
        return found


class Cut(NamedTuple):
    """A state, how it came about, and what the user then does."""

    trial: str  # "one", "two" or "three": trains this run; "evaluate": evaluates "one"
    state: State
    promises: Promises
    after: str  # the last operation before the power cut
    survived: str  # what has survived of what was not durable


class Cuts(NamedTuple):
    """All states of a session.

    Of those that differ only in temporaries or in lock files, one is in ``cuts``: the
    programs delete the former by their names and compare no byte of the latter.
    """

    num_states: int
    num_distinct: int
    cuts: list[Cut]  # one for each trial


@functools.cache
def _names(path: str) -> tuple[str, str]:
    """A path without the random part of a temporary, and without what is in it."""
    return _TEMPORARY.sub(r"\1*\2\3", path), _TEMPORARY.sub(r"\1*\2", path)


@functools.cache
def _key(items: frozenset) -> frozenset:
    """Equal for states that differ only in the random parts of names."""
    named = ((_names(path)[0], content) for path, content in items)
    return frozenset(Counter(named).items())


@functools.cache
def _class(items: frozenset) -> frozenset:
    """Equal for states from which the programs recover alike; see Cuts."""
    found = set()
    for path, content in items:
        name = _names(path)[1]
        is_ignored = name != path or path.endswith(".lock")
        found.add((name, None if is_ignored else content))
    return frozenset(found)


def _without(state: State, folder: str) -> State:
    inner = f"{folder}/"
    return {p: c for p, c in state.items() if p != folder and not p.startswith(inner)}


def _states_at(disk: Disk) -> Iterator[tuple[str, State]]:
    """The states of a cut now, also with a buffer on a RAM disk."""
    yield from disk.states()
    _, state = next(disk.states())
    lost = _without(state, "buffer")
    yield "everything but the buffer folder", lost
    yield "everything but the files of the buffer folder", {**lost, "buffer": None}


def enumerate_cuts(operations: Iterable[Operation], model: str) -> Cuts:
    """Lists the states of all cuts; each has the promises of its latest cut."""
    disk, promises, last = Disk(model), Promises(), "the start"
    num_states, distinct, cuts = 0, set(), {}
    for operation in [*operations, Operation("fsync", ".")]:  # A cut at the end, too.
        if operation.kind in _CUTS:
            for survived, state in _states_at(disk):
                num_states += 1
                distinct.add((promises.phase, _key(frozenset(state.items()))))
                for trial in _TRIALS[promises.phase]:
                    # A new run does not depend on the other ones.
                    seen = (
                        _without(state, "saved_models") if trial == "three" else state
                    )
                    cut = Cut(trial, seen, promises, last, survived)
                    cuts[trial, _class(frozenset(seen.items()))] = cut
        if operation.kind == "say" and operation.path == "phases":
            # The user's next command comes minutes later.
            disk.settle()
        disk.replay(operation)
        promises = promises.after(operation)
        last = str(operation)
    return Cuts(num_states, len(distinct), list(cuts.values()))
