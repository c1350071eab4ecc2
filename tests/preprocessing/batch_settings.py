"""Small batch settings that the tests of this folder share. No test."""

import dataclasses

from resnet50.config.settings import AugmentationConfig
from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.preprocessing.batches import BatchSettings
from tests.settings import SETTINGS

STATISTICS = ChannelStatistics((0.45, 0.5, 0.4), (0.25, 0.3, 0.2))

# Five shorter sides: 36, 43, 50, 57, 64.
AUGMENTATION = dataclasses.replace(
    SETTINGS.augmentation,
    shorter_side_min=36,
    shorter_side_max=64,
    shorter_side_step=7,
    crop_size=32,
    flip_probability=0.5,
    colour_jitter_stddev=0.1,
    crop_size_schedule=(),
)


def make_settings(**changes) -> BatchSettings:
    """Settings for batches of 4 in float32; the changes may name any setting."""
    names = {field.name for field in dataclasses.fields(AugmentationConfig)}
    augmentation = {name: changes.pop(name) for name in names & set(changes)}
    settings = BatchSettings(
        seed=7,
        batch_size=4,
        dtype="float32",
        statistics=STATISTICS,
        augmentation=dataclasses.replace(AUGMENTATION, **augmentation),
    )
    return dataclasses.replace(settings, **changes)
