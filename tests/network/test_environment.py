"""Proves that TensorFlow's environment is set, whichever room loads it first."""

import json

import pytest

from tests.processes import python_process

PROGRAM = """if True:
    import importlib, os, sys
    importlib.import_module(sys.argv[1])
    assert "tensorflow" not in sys.modules
    print(os.environ["TF_CPP_MIN_LOG_LEVEL"], os.environ["TF_GPU_THREAD_MODE"])
"""


@pytest.mark.parametrize("room", ["resnet50.network", "resnet50.training"])
@pytest.mark.parametrize(("cluster", "level"), [(None, "2"), ({}, "3")])
def test_a_room_sets_the_environment_before_tensorflow(
    room, cluster, level, monkeypatch
):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if cluster is not None:
        monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with python_process(PROGRAM, room) as process:
        assert process.stdout.read() == f"{level} gpu_private\n"
