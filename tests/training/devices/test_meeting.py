"""Proves which TF_CONFIG is valid, and that only equal hosts meet."""

import contextlib
import json
import threading

import pytest

from resnet50.handoff import locks
from resnet50.training.devices.meeting import (
    ALONE,
    Cluster,
    MeetingError,
    first_lost,
    meet,
    membership,
    parse_cluster,
)

ADDRESSES = ("host0:4711", "host1:4711")
CHIEF, OTHER = (Cluster(ADDRESSES, index) for index in range(2))


def config(**changes):
    task = {"type": "worker", "index": 1}
    return json.dumps({"cluster": {"worker": ADDRESSES}, "task": task} | changes)


def test_the_cluster_of_a_host():
    assert parse_cluster(config()) == OTHER
    assert not OTHER.is_chief and not OTHER.is_alone
    assert parse_cluster(config(task={"type": "worker", "index": 0})).is_chief


@pytest.mark.parametrize("text", [None, ""])
def test_without_tf_config_a_trainer_is_alone(text):
    assert parse_cluster(text) == ALONE
    assert ALONE.is_alone and ALONE.is_chief


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "TF_CONFIG: is no JSON: "),
        ("[]", "TF_CONFIG: lacks "),
        ("{}", "TF_CONFIG: lacks 'cluster' (expected {"),
        (config(task={"type": "worker"}), "TF_CONFIG: lacks 'index'"),
        (config(task={"type": "ps", "index": 0}), "TF_CONFIG: names ps (all must be"),
        (
            config(cluster={"chief": ["a:1"], "worker": ["b:1"]}),
            "TF_CONFIG: names chief (all must be worker)",
        ),
        (config(cluster={"worker": []}), "TF_CONFIG: worker is no list"),
        (config(cluster={"worker": "a:1"}), "TF_CONFIG: worker is no list"),
        (config(cluster={"worker": ["a", "b:1"]}), "TF_CONFIG: worker 'a' (expected"),
        (config(cluster={"worker": [1, "b:1"]}), "TF_CONFIG: worker 1 (expected"),
        (config(cluster={"worker": ["a:1", "a:1"]}), "TF_CONFIG: names a worker twice"),
        (
            config(task={"type": "worker", "index": 2}),
            "TF_CONFIG: index 2 (must be 0 to 1",
        ),
        (config(task={"type": "worker", "index": "0"}), "TF_CONFIG: index '0' (must"),
        (config(task={"type": "worker", "index": True}), "TF_CONFIG: index True"),
    ],
)
def test_a_malformed_tf_config_is_one_line(text, expected):
    with pytest.raises(MeetingError) as caught:
        parse_cluster(text)
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def meet_all(folder, descriptions, seconds=20):
    """Lets hosts meet in threads; returns each one's error line, or None."""
    addresses = tuple(f"host{i}:4711" for i in range(len(descriptions)))
    errors = [None] * len(descriptions)

    def join(index):
        cluster = Cluster(addresses, index)
        with membership(folder, cluster):
            try:
                meet(
                    folder, cluster, descriptions[index], seconds=seconds, notify=print
                )
            except MeetingError as error:
                errors[index] = str(error)

    threads = [threading.Thread(target=join, args=(i,)) for i in range(len(errors))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_equal_hosts_meet_and_meet_again(tmp_path):
    """The second time the folder holds the files of the first, with other settings."""
    assert meet_all(tmp_path, [{"seed": 0, "epochs": (1, 2)}] * 3) == [None] * 3
    assert meet_all(tmp_path, [{"seed": 1}] * 2) == [None] * 2


def test_hosts_that_differ_all_say_in_what(tmp_path):
    meet_all(tmp_path, [{"TensorFlow": "2.21.0"}] * 2)
    errors = meet_all(tmp_path, [{"TensorFlow": "2.21.0"}, {"TensorFlow": "2.20.0"}])
    assert errors == [
        "worker 1, host1:4711: TensorFlow = 2.20.0, here, worker 0, it is 2.21.0 (must "
        "be the same for all workers)",
        "worker 0, host0:4711: TensorFlow = 2.21.0, here, worker 1, it is 2.20.0 (must "
        "be the same for all workers)",
    ]


@pytest.mark.parametrize(("cluster", "missing"), [(CHIEF, 1), (OTHER, 0)])
def test_a_host_that_does_not_come_is_named(tmp_path, cluster, missing):
    """Also if its file of an earlier training is still there."""
    meet_all(tmp_path, [{}, {}])
    with pytest.raises(MeetingError) as caught, membership(tmp_path, cluster):
        meet(tmp_path, cluster, {}, seconds=0.5, notify=print)
    assert str(caught.value) == (
        f"{tmp_path}: worker {missing}, host{missing}:4711, has not come within 0.5 s "
        "(is it started, and is this folder the same for all?)"
    )


def test_a_chief_that_has_its_lock_but_not_yet_its_file_has_not_come(tmp_path):
    """Its note of an earlier training, with the same description, is still there."""
    meet_all(tmp_path, [{}, {}])
    with (
        locks.exclusive_role(tmp_path, "train_worker_0"),
        membership(tmp_path, OTHER),
        pytest.raises(MeetingError, match="worker 0, host0:4711, has not come"),
    ):
        meet(tmp_path, OTHER, {}, seconds=0.5, notify=print)


def test_an_index_is_taken_once(tmp_path):
    with membership(tmp_path, CHIEF), membership(tmp_path, OTHER):
        with pytest.raises(MeetingError) as caught, membership(tmp_path, OTHER):
            pass
        assert "a worker 1 already trains here, process " in str(caught.value)


def test_who_is_lost(tmp_path):
    with contextlib.ExitStack() as other, membership(tmp_path, CHIEF):
        role = other.enter_context(membership(tmp_path, OTHER))
        assert first_lost(tmp_path, CHIEF) is None
        role.path.unlink()
        assert first_lost(tmp_path, CHIEF) is None  # It will make the file again.
        assert role.take_again(make_folder=False)
        assert first_lost(tmp_path, CHIEF) is None
        other.close()
        assert first_lost(tmp_path, CHIEF) == 1
