"""Proves that one device compiles functions as they are, and takes arrays uncopied."""

import logging

import numpy as np
import pytest
import tensorflow as tf

from resnet50.handoff.npy_file import RecycledMemory
from resnet50.training.devices.protocol import ONE_DEVICE


def test_a_step_that_averages_compiles_without_a_warning(caplog, monkeypatch):
    monkeypatch.setattr(tf.get_logger(), "propagate", True)
    variable = tf.Variable([1.0, 2.0])

    def step(number):
        ONE_DEVICE.average([variable])
        return variable + number

    with caplog.at_level(logging.WARNING):
        result = ONE_DEVICE.compile(step, False)(tf.constant(1.0))
    assert result.numpy().tolist() == [2.0, 3.0]
    assert not caplog.messages


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_a_batch_becomes_a_tensor_without_a_copy_on_the_host(dtype):
    images = RecycledMemory().empty((2, 5, 5, 3), dtype)
    images[:] = np.arange(images.size).reshape(images.shape)
    labels = np.array([3, 5], np.int32)
    with tf.device("CPU:0"):
        tensors = ONE_DEVICE.to_device(images, labels, None)
    assert np.shares_memory(np.asarray(memoryview(tensors[0])), images)
    np.testing.assert_array_equal(tensors[0].numpy(), images)
    assert tensors[0].dtype == dtype
    assert tensors[1].numpy().tolist() == [3, 5] and tensors[2] is None


def test_memory_is_not_used_again_before_the_tensor_is_gone():
    memory = RecycledMemory()
    images = memory.empty((2, 5, 5, 3), "float16")
    images[:] = 1
    with tf.device("CPU:0"):
        (tensor,) = ONE_DEVICE.to_device(images)
    del images
    for _ in range(3):
        memory.empty((2, 5, 5, 3), "float16")[:] = 2
    assert np.all(tensor.numpy() == 1)
