"""Proves that the doctor's trial computes on the CPU and reads the build."""

import pytest
import tensorflow as tf

from resnet50.training.devices import trial


@pytest.mark.parametrize("with_xla", [False, True])
def test_the_trial_by_hand(with_xla):
    assert trial.compute(with_xla=with_xla) == 100


def test_the_build_is_that_of_the_installed_tensorflow():
    build = trial.find_build()
    assert build.tensorflow == tf.__version__
    if build.cuda:
        assert int(build.cuda.split(".")[0]) >= 12
        assert build.cudnn and build.capabilities
    assert len(trial.find_gpus()) == len(tf.config.list_physical_devices("GPU"))
