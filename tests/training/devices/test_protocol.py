"""A single device compiles a function as it stands, without TensorFlow's warnings."""

import logging

import tensorflow as tf

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
