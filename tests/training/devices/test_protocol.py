"""Proves that one device compiles functions as they are, and takes arrays uncopied."""

import logging
import threading

import numpy as np
import pytest
import tensorflow as tf

from resnet50.handoff.npy_file import RecycledMemory
from resnet50.training.devices import protocol
from resnet50.training.devices.protocol import ONE_DEVICE, OneDevice

CPU = OneDevice(name="CPU:0")


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
    tensors = CPU.to_device(images, labels, None)
    assert np.shares_memory(np.asarray(memoryview(tensors[0])), images)
    np.testing.assert_array_equal(tensors[0].numpy(), images)
    assert tensors[0].dtype == dtype
    assert tensors[1].numpy().tolist() == [3, 5] and tensors[2] is None


def test_memory_is_not_used_again_before_the_tensor_is_gone():
    memory = RecycledMemory()
    images = memory.empty((2, 5, 5, 3), "float16")
    images[:] = 1
    (tensor,) = CPU.to_device(images)
    del images
    for _ in range(3):
        memory.empty((2, 5, 5, 3), "float16")[:] = 2
    assert np.all(tensor.numpy() == 1)


def test_all_arrays_of_a_batch_are_copied_at_once(monkeypatch):
    """One after another, each copy would wait for the steps that a GPU has received."""
    meeting, to_host = threading.Barrier(3), protocol.to_host

    def meet(array):
        meeting.wait(60)  # Until all three copies have begun.
        return to_host(array)

    monkeypatch.setattr(protocol, "to_host", meet)
    arrays = [np.full(2, number, np.float32) for number in range(3)]
    tensors = CPU.to_device(*arrays)
    assert [tensor.numpy().tolist() for tensor in tensors] == [[0, 0], [1, 1], [2, 2]]
    assert CPU.to_device(*tensors, None) == (*tensors, None)  # They are not copied.


def test_no_tensor_of_a_batch_is_of_a_type_that_a_gpu_keeps_on_the_host():
    labels = np.array([3, 5], np.int32)
    images = np.zeros((2, 4, 4, 3), np.uint8)
    shifts, numbers = np.zeros((2, 3), np.float32), np.zeros(5, np.float32)
    tensors = CPU.to_device(images, labels, shifts, numbers)
    assert tf.int32 not in {tensor.dtype for tensor in tensors}
