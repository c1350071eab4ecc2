"""Proves from which host all hosts of a training copy their variables."""

import types
from pathlib import Path

import pytest

from resnet50.handoff.cluster import Cluster
from resnet50.handoff.progress import Position
from resnet50.training import session
from resnet50.training.checkpoint import DamagedCheckpointError
from resnet50.training.description import CheckpointError, MissingCheckpointError
from resnet50.training.session import Session

ADDRESSES = ("a:1", "b:1", "c:1")
MISSING = MissingCheckpointError("run: holds no checkpoint")


@pytest.fixture(autouse=True)
def set_aside(monkeypatch):
    """The positions whose later checkpoints were set aside."""
    calls = []
    monkeypatch.setattr(
        session, "set_aside", lambda folder, position, notify: calls.append(position)
    )
    return calls


class FakeDevices:
    """Stands in for HostDevices: the positions of the other hosts are given."""

    def __init__(self, index, others):
        self._index = index
        self._others = others
        self.source = None

    def gather(self, position):
        found = list(self._others)
        found.insert(self._index, position)
        return found

    def copy_from(self, host, variables):
        self.source = host


def restore(index, own, others, *, is_local=True):
    """Restores on one host; returns the position, the source and the lines."""

    def restore_own(training):
        if isinstance(own, Exception):
            raise own
        return own

    lines = []
    subject = types.SimpleNamespace(
        run=types.SimpleNamespace(
            folder=Path("run"), cluster=Cluster(ADDRESSES, index, is_local)
        ),
        observer=types.SimpleNamespace(notify=lines.append),
        _restore_own=restore_own,
    )
    devices = FakeDevices(index, others)
    training = types.SimpleNamespace(variables=[])
    position = Session._restore_jointly(subject, training, devices)
    return position, devices.source, lines


NEW, OLD = Position(3, 5), Position(3, 0)


@pytest.mark.parametrize(
    ("own", "others", "source"),
    [
        (NEW, [NEW, NEW], 0),
        (NEW, [OLD, None], 1),
        (NEW, [None, NEW], 1),
        (Position(0, 0), [Position(0, 0), Position(0, 0)], 0),
    ],
)
def test_all_copy_from_the_first_host_with_the_newest_checkpoint(own, others, source):
    assert restore(1, own, others) == (own, source, [])


@pytest.mark.parametrize(
    ("own", "what"),
    [
        (OLD, "epoch 3, batch 0"),
        (MISSING, "none"),
        (DamagedCheckpointError("run/3: is damaged"), "none"),
    ],
)
def test_a_host_without_the_newest_checkpoint_says_whose_it_copies(
    own, what, set_aside
):
    """Such as the chief, after its disk was lost.

    Later ones of its own are of a part of the training that --epoch_start repeats.
    """
    assert restore(0, own, [OLD, NEW]) == (
        NEW,
        2,
        [
            "run: worker 2, c:1, has the newest checkpoint, epoch 3, batch 5; this "
            f"host, which has {what}, copies it"
        ],
    )
    assert set_aside == [NEW]


def test_if_no_host_has_a_checkpoint_each_says_why():
    with pytest.raises(MissingCheckpointError, match="run: holds no checkpoint"):
        restore(1, MISSING, [None, None])


def test_hosts_that_share_folders_copy_from_the_chief():
    assert restore(2, None, [NEW, None], is_local=False) == (NEW, 0, [])
    with pytest.raises(CheckpointError, match="worker 0, a:1, has no checkpoint to"):
        restore(2, None, [None, None], is_local=False)


def test_a_checkpoint_of_another_training_is_not_replaced():
    with pytest.raises(CheckpointError, match="seed"):
        restore(0, CheckpointError("run/3: was trained with seed = 1"), [NEW, NEW])
