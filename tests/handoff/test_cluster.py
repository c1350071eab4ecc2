"""Proves which TF_CONFIG is valid, and which rows of a batch each host has."""

import json

import pytest

from resnet50.handoff.buffer import Rows
from resnet50.handoff.cluster import (
    ALONE,
    Cluster,
    ClusterError,
    parse_cluster,
    split_address,
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
    with pytest.raises(ClusterError) as caught:
        parse_cluster(text)
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("host0.example.org:4711", ("host0.example.org", 4711)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
        ("[::1]:4711", ("::1", 4711)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
    ],
)
def test_an_address_has_a_host_and_a_port(address, expected):
    assert split_address(address) == expected
    assert parse_cluster(config(cluster={"worker": ["a:1", address]})).index == 1


@pytest.mark.parametrize(
    "address", ["a", "a:", ":1", "a:0", "a:65536", "::1:4711", "http://a:1", "[a:1"]
)
def test_other_addresses_are_refused(address):
    with pytest.raises(ClusterError, match=r"TF_CONFIG: worker '.*' \(expected"):
        parse_cluster(config(cluster={"worker": ["b:1", address]}))


def test_the_rows_of_all_hosts_are_the_batch():
    hosts = [Cluster(tuple("abc"), index, True) for index in range(3)]
    assert [host.rows(12) for host in hosts] == [Rows(0, 4), Rows(4, 8), Rows(8, 12)]
    assert all(host.writes_files for host in hosts)


def test_hosts_that_share_a_folder_share_whole_batches():
    assert OTHER.rows(12) is None
    assert not OTHER.writes_files
    local = {"has_local_folders": True}
    assert parse_cluster(config(), **local).rows(12) == Rows(6, 12)
    assert parse_cluster(None, **local).rows(12) is None
    one = config(cluster={"worker": ["a:1"]}, task={"type": "worker", "index": 0})
    assert parse_cluster(one, **local).rows(7) is None


@pytest.mark.parametrize("batch_size", [1, 13])
def test_a_batch_that_cannot_be_divided_is_refused(batch_size):
    with pytest.raises(ClusterError) as caught:
        Cluster(ADDRESSES, 0, True).rows(batch_size)
    assert str(caught.value) == (
        f"[train] batch_size = {batch_size} (must be divisible by 2, the number of "
        "workers in TF_CONFIG)"
    )
