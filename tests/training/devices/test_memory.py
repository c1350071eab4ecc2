"""Proves that the estimate of a GPU's memory follows the graph of the step."""

import dataclasses

import pytest
import tensorflow as tf

from resnet50.checks.cuda import CardMemory
from resnet50.training.devices import memory
from resnet50.training.devices.memory import GpuMemoryError, MemoryNeed
from tests.settings import SETTINGS
from tests.training.gpu_graph import create_gpu_training, peak_bytes, trace

NUM_PARAMETERS = 25_557_032


def need(crop_size=224, **keys):
    train = dataclasses.replace(SETTINGS.train, **keys)
    return MemoryNeed(train, crop_size, NUM_PARAMETERS)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"precision": "float16"},
        {"precision": "bfloat16"},
        {"xla": True},
        {"precision": "bfloat16", "xla": True},
    ],
    ids=str,
)
def test_the_estimate_is_the_graph_s(keys):
    training = create_gpu_training(**keys)
    for batch_size, crop_size in ((32, 224), (128, 224), (64, 64), (8, 64)):
        graph = peak_bytes(trace(training, batch_size, crop_size=crop_size))
        estimate = need(crop_size, **keys).step_bytes(batch_size)
        # In small steps the gradients add to the activations; a tenth of a GB.
        assert estimate == pytest.approx(graph, rel=0.04, abs=0.1e9)
        assert estimate >= graph or graph < 0.6e9, (batch_size, crop_size)


@pytest.mark.parametrize(
    ("trainable", "precision"),
    [
        ("stage1", "float32"),
        ("stage2", "bfloat16"),
        ("stage3", "float32"),
        ("stage4", "bfloat16"),
        ("classifier", "float32"),
    ],
)
def test_the_estimate_of_a_frozen_network_is_the_graph_s(trainable, precision):
    training = create_gpu_training(trainable=trainable, precision=precision)
    frozen = {"trainable": trainable, "num_trained": training.model.num_trained}
    train = dataclasses.replace(SETTINGS.train, precision=precision)
    estimates = MemoryNeed(train, 224, NUM_PARAMETERS, **frozen)
    graph = peak_bytes(trace(training, 64))
    assert graph <= estimates.step_bytes(64) < 1.15 * graph
    if trainable == "classifier":
        assert estimates.estimate_bytes(64) < 0.3 * need().estimate_bytes(64)


def test_batches_of_64_fit_into_8_gigabytes_in_float32():
    assert 6.5e9 < need().estimate_bytes(64) < 7.5e9
    assert 64 <= need().largest_batch(7.7e9) < 80
    assert need(precision="float16").largest_batch(7.7e9) > 120


def test_the_largest_batch_is_the_last_that_fits():
    free = need().estimate_bytes(50)
    assert need().largest_batch(free) == 50
    assert need().largest_batch(free - 1) == 49
    assert need().largest_batch(1e8) == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [("accumulate_batches", 2), ("weight_average_decay", 0.9), ("optimizer", "lamb")],
)
def test_more_variables_need_more(key, value):
    more = need(**{key: value}).estimate_bytes(64) - need().estimate_bytes(64)
    assert more == pytest.approx(1.1 * 4 * NUM_PARAMETERS)


def test_a_batch_that_fits_and_one_that_does_not():
    assert need().line(64, 7.9e9) == (
        "batches of 64 in float32 need about 7.1 GB; 7.9 GB of the GPU's memory are "
        "free"
    )
    assert need().line(64, 5.5e9) == (
        "warning: batches of 64 in float32 need about 7.1 GB, but 5.5 GB of the GPU's "
        "memory are free; batches of 47 should fit"
    )


def test_full_memory_is_one_line_with_a_batch_that_fits():
    def fill(batch_size, free):
        with need().reported(batch_size, free):
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    with pytest.raises(GpuMemoryError) as caught:
        fill(64, 5.5e9)
    assert str(caught.value) == (
        "the memory of the GPU is full: batches of 64 in float32 need about 7.1 GB, "
        "5.5 GB were free at the start (use --batch_size=47 in both terminals)"
    )
    # Where the estimate says that it fits, or nobody knows, less is recommended.
    for free in (16e9, None):
        with pytest.raises(GpuMemoryError, match="use --batch_size=48 in"):
            fill(64, free)


def test_the_free_memory_is_that_of_the_cards_with_the_name(monkeypatch):
    cards = [CardMemory("A100", 5, 9), CardMemory("T4", 1, 9), CardMemory("A100", 4, 9)]
    monkeypatch.setattr(memory, "find_memory", lambda: cards)
    assert memory.free_gpu_bytes("A100") == 4
    assert memory.free_gpu_bytes("H100") is None
