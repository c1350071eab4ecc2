"""Proves that the installed build and the GPUs are found."""

import tensorflow as tf

from resnet50.training.devices import reported


def test_the_build_is_that_of_the_installed_tensorflow():
    build = reported.find_build()
    assert build.tensorflow == tf.__version__
    if build.cuda:
        assert int(build.cuda.split(".")[0]) >= 12
        assert build.cudnn and build.capabilities
    assert len(reported.find_gpus()) == len(tf.config.list_physical_devices("GPU"))
