"""Trials of memory: its growth over many steps, and a batch that is too large."""

import resource
from pathlib import Path

import tensorflow as tf

from resnet50.training.devices import reported
from resnet50.training.devices.memory import GpuMemoryError, MemoryNeed
from resnet50.training.trials.subject import Subject


def describe_gpus() -> dict:
    """The GPUs that TensorFlow finds, and what it was built for."""
    return {"gpus": reported.find_gpus(), "build": reported.find_build()._asdict()}


def _memory_bytes(device: str) -> dict[str, int]:
    """What the process and, if it is a GPU, the device have in use."""
    _, pages, *_ = Path("/proc/self/statm").read_text().split()
    card = 0
    if device.startswith("GPU"):
        card = tf.config.experimental.get_memory_info(device)["current"]
    return {"process_bytes": int(pages) * resource.getpagesize(), "card_bytes": card}


def measure_growth(subject: Subject, steps: list[int]) -> dict:
    """The memory in use after some numbers of steps, each with a copied batch."""
    subject.set_up()
    found, start = [], 0
    with subject.scope():
        training = subject.create()
        batch = subject.random_batch()
        for target in steps:
            for _ in range(start, target):
                loss = training.step(*batch)
            start = target
            float(loss)  # Waits for the device.
            found.append({"steps": target, **_memory_bytes(subject.device)})
    return {"memory": found}


def overfill(subject: Subject, memory_limit_mb: int) -> dict:
    """Makes a step whose batch is far too large for a part of the card's memory.

    Returns the message of the GpuMemoryError that it should end with, or "".
    """
    subject.set_up(memory_limit_mb=memory_limit_mb)
    size, side = subject.batch_size, subject.crop_size
    with subject.scope():
        training = subject.create()
        need = MemoryNeed(subject.train_config, side, training.model.num_parameters)
        try:
            with need.reported(size, memory_limit_mb * 1e6):
                images = tf.zeros([size, side, side, 3], subject.image_dtype)
                labels = tf.zeros([size], tf.int32)
                float(training.step(images, labels, None, subject.numbers))
        except GpuMemoryError as error:
            return {"error": str(error)}
    return {"error": ""}
