"""What must hold in every state, judged without starting a program.

    no checkpoint      is damaged, as it has got its name after its contents
    the newest one     is the one that was announced last, or a later one
    evaluation.csv     has every row that was printed
    the batches        beside a manifest were made with it, or reveal that they were not

It judges all states in the time of some recoveries, which still have to show that the
programs work from there.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePath

from resnet50.handoff.progress import Position
from tests.power_cut.disk import Disk, State
from tests.power_cut.recorder import Operation
from tests.power_cut.states import Cut

_CHECKPOINT = re.compile(r"saved_models/(\w+)/([0-9]+)(?:_([0-9]+))?")
_BATCH = re.compile(r"buffer/(images|labels)_[0-9]+_[0-9]+\.npy")
_MANIFEST = "buffer/manifest.json"
_HEADER_BYTES = 128  # of a batch file

# For each manifest, the batch files that were made while it was there.
Batches = dict[bytes, dict[str, bytes]]


def recorded_batches(operations: Iterable[Operation]) -> Batches:
    """The batch files of a session, for each manifest."""
    disk, found = Disk(), {}
    for operation in operations:
        disk.replay(operation)
        if operation.kind == "rename" and _BATCH.fullmatch(operation.target):
            batches = found.setdefault(disk.read(_MANIFEST), {})
            batches[operation.target] = disk.read(operation.target)
    return found


def _is_whole(state: State, checkpoint: str) -> bool:
    try:
        checksums = json.loads(state[f"{checkpoint}/state.json"])["sha256"]
        return all(
            hashlib.sha256(state[f"{checkpoint}/{name}"]).hexdigest() == sha256
            for name, sha256 in checksums.items()
        )
    except (KeyError, ValueError, TypeError):
        return False


def _faults_of_runs(cut: Cut) -> Iterator[str]:
    newest: dict[str, Position] = {}
    for path in cut.state:
        if match := _CHECKPOINT.fullmatch(path):
            run, epoch, batch_index = match.groups()
            position = Position(int(epoch), int(batch_index or 0))
            if batch_index is None:
                position = Position(position.epoch + 1, 0)
            if not _is_whole(cut.state, path):
                yield f"run {run}: a checkpoint is damaged"
                continue
            newest[run] = max(position, newest.get(run, position))
    for run, announced in cut.promises.saved:
        if newest.get(run, Position(0, 0)) < announced:
            yield f"run {run}: an announced checkpoint is lost"
    table = cut.state.get("saved_models/one/evaluation.csv", b"")
    for crops in cut.promises.evaluated:
        if f",{crops},trained,".encode() not in table:
            yield "run one: a row of evaluation.csv is lost"


def _faults_of_buffer(state: State, batches: Batches) -> Iterator[str]:
    made = batches.get(state.get(_MANIFEST))
    if made is None:  # Then all batches are replaced.
        return
    for path, content in state.items():
        if not _BATCH.fullmatch(path) or content == made.get(path):
            continue
        right = made.get(path, content)
        is_believable = (
            len(content) == len(right)
            and content[:_HEADER_BYTES] == right[:_HEADER_BYTES]
        )
        if is_believable:
            yield f"{PurePath(path).name[:6]}: another batch would be believed"


def faults(cut: Cut, batches: Batches) -> set[str]:
    """What is wrong with a state; ``batches`` are those of its session."""
    found = set(_faults_of_buffer(cut.state, batches))
    if cut.trial != "three":  # Its states are without runs.
        found |= set(_faults_of_runs(cut))
    return found
