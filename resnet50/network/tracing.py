"""Turns Python functions into TensorFlow graphs."""

import functools

import tensorflow as tf

# tf.function without AutoGraph, which translates Python's control flow on tensors. This
# project has none. AutoGraph also reads the source files again at the first call, when
# they may have been edited, and warns of a method that has only a docstring.
traced = functools.partial(tf.function, autograph=False)
