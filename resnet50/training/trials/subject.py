"""What a trial tries: a training on a named device, with random images."""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from resnet50.config.settings import ModelConfig, TrainConfig
from resnet50.network.model import STAGES, Stage
from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.training.devices.protocol import OneDevice
from resnet50.training.devices.selection import leave_gpus_alone, prepare_device
from resnet50.training.update.schedules import StepNumbers
from resnet50.training.update.step import Training, create_training

_STATISTICS = ChannelStatistics((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
_LEARNING_RATE = 0.01


@dataclasses.dataclass(frozen=True)
class Subject:
    """The arguments that most trials have, and what they make of them."""

    device: str  # "GPU:0"; in tests, "CPU:1" is a second logical device
    model: dict  # [model] of config.txt
    train: dict  # [train], with the trial's precision, xla, tf32 and deterministic
    batch_size: int
    crop_size: int
    image_dtype: str = "float16"
    pads_in_op: bool = True  # whether convolutions pad; without XLA
    stages: tuple = STAGES
    num_classes: int = 1000

    @property
    def train_config(self) -> TrainConfig:
        """[train]."""
        return TrainConfig(**self.train)

    def set_up(self, *, memory_limit_mb: int | None = None) -> None:
        """Prepares TensorFlow; must be called before its first use."""
        train = self.train_config
        kind, _, index = self.device.partition(":")
        gpus = tf.config.list_physical_devices("GPU")
        if kind == "CPU":
            leave_gpus_alone()
            [cpu] = tf.config.list_physical_devices("CPU")
            parts = [tf.config.LogicalDeviceConfiguration()] * (int(index) + 1)
            tf.config.set_logical_device_configuration(cpu, parts)
        elif memory_limit_mb is not None:
            limit = tf.config.LogicalDeviceConfiguration(memory_limit=memory_limit_mb)
            tf.config.set_visible_devices(gpus[:1], "GPU")
            tf.config.set_logical_device_configuration(gpus[0], [limit])
        else:
            prepare_device(deterministic=False, notify=lambda line: None)
        if train.deterministic:
            tf.config.experimental.enable_op_determinism()
        tf.config.experimental.enable_tensor_float_32_execution(train.tf32)

    def create(self) -> Training:
        """Creates the training; call it, and its methods, in ``scope``."""
        return create_training(
            self.num_classes,
            ModelConfig(**self.model),
            self.train_config,
            _STATISTICS,
            OneDevice(has_gpu=self.pads_in_op, name=self.device),
            [Stage(*stage) for stage in self.stages],
        )

    def scope(self):
        """The context in which TensorFlow uses the device."""
        return tf.device(self.device)

    @property
    def numbers(self) -> np.ndarray:
        """The last argument of ``Training.step``."""
        return np.array(StepNumbers(_LEARNING_RATE), np.float32)

    def random_batch(self, seed: int = 0) -> tuple:
        """The arguments of ``Training.step``, on the host."""
        rng = np.random.default_rng(seed)
        shape = self.batch_size, self.crop_size, self.crop_size, 3
        labels = rng.integers(0, self.num_classes, self.batch_size, np.int32)
        shifts = None
        if self.image_dtype == "uint8":
            images = rng.integers(0, 256, shape, np.uint8)
            shifts = np.zeros((self.batch_size, 3), np.float32)
        else:
            images = rng.standard_normal(shape, np.float32).astype(self.image_dtype)
        return images, labels, shifts, self.numbers


def seconds_of(function: Callable[[], object]) -> float:
    """The time of a call, up to the end of all that it gave to the device."""
    tf.test.experimental.sync_devices()
    started = time.perf_counter()
    function()
    tf.test.experimental.sync_devices()
    return time.perf_counter() - started
