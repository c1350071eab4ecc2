"""Networks with settings that suit a test."""

import dataclasses

from resnet50.network.model import STAGES, ResNet50
from tests.settings import SETTINGS


def create_resnet(num_classes=3, *, stages=STAGES, seed=0, **settings) -> ResNet50:
    """Creates a ResNet50 whose gammas are all 1.

    Args:
        num_classes: K.
        stages: See ResNet50.
        seed: See ResNet50.
        settings: Keys of [model] that differ from config.txt as shipped.
    """
    settings = {"zero_init_last_gamma": False, **settings}
    model = dataclasses.replace(SETTINGS.model, **settings)
    return ResNet50(num_classes, model, stages=stages, seed=seed)
