"""Proves that each recipe is what its source says, and that its arithmetic is right."""

import dataclasses
import math
import re

import numpy as np
import pytest
import tomli

from resnet50.config.toml_file import read_config
from resnet50.handoff.buffer import crop_size_at
from resnet50.network.weights_file import PUBLISHED, Origin
from resnet50.training.update.schedules import PerStepNumbers
from tests.settings import PROJECT

RECIPES = {path.stem: path for path in sorted((PROJECT / "recipes").iterdir())}
FINE_TUNING = RECIPES.pop("finetuning")  # The settings of no publication.
PAGE = (PROJECT / "docs" / "training-imagenet.md").read_text(encoding="utf-8")
IMAGES_PER_SECOND = {
    "RTX 2080": 213,
    "A100": 2375,
    "H100": round(2375 * 14.4 / 7.8, -1),
}
IMAGENET_IMAGES = 1_281_167

# torchvision's RandomResizedCrop by default, and no shift of the colours.
RANDOM_AREA = {
    "crop_method": "random_area",
    "crop_area": (0.08, 1),
    "crop_ratio": (3 / 4, 4 / 3),
    "colour_jitter_stddev": 0,
}

# What each source says, where a recipe must not differ from it.
SOURCES = {
    "he2015": {
        "variant": "v1",
        "zero_init_last_gamma": False,
        "epochs": 90,
        "learning_rate": 0.1,
        "schedule": "step",
        "warmup_epochs": 0,
        "decay_epochs": (30, 60),
        "decay_factor": 0.1,
        "nesterov": False,
        "l2_penalty_on": "all",
        "label_smoothing": 0,
        "weight_average_decay": 0,
        "crop_size_schedule": (),
    },
    "goyal2017": {
        "variant": "v1.5",
        "zero_init_last_gamma": True,
        "epochs": 90,
        "learning_rate": 0.1,
        "schedule": "step",
        "warmup_epochs": 5,
        "decay_epochs": (30, 60, 80),
        "decay_factor": 0.1,
        "nesterov": True,
        "l2_penalty_on": "kernels",
        "label_smoothing": 0,
        "weight_average_decay": 0,
        "crop_size_schedule": (),
    },
    "ffcv2022": {
        "variant": "v1.5",
        "zero_init_last_gamma": True,
        "epochs": 40,
        "learning_rate": 1.7 * 256 / (8 * 512),
        "schedule": "cosine",
        "warmup_epochs": 2,
        "nesterov": False,
        "l2_penalty_on": "kernels",
        "label_smoothing": 0.1,
        "weight_average_decay": 0.99987,
        "crop_size_schedule": ((0, 160), (32, 192)),
    },
    "torchvision-v1": {
        **RANDOM_AREA,
        "zero_init_last_gamma": False,
        "epochs": 90,
        "learning_rate": 0.1,
        "schedule": "step",
        "warmup_epochs": 0,
        "decay_epochs": (30, 60),
        "decay_factor": 0.1,
        "l2_penalty_on": "all",
        "label_smoothing": 0,
        "weight_average_decay": 0,
        "crop_size_schedule": (),
    },
    "torchvision-v2": {
        **RANDOM_AREA,
        "crop_size_schedule": ((0, 176),),
        "trivial_augment": True,
        "erasing_probability": 0.1,
        "repeated_augmentation": 4,
        "zero_init_last_gamma": False,
        "accumulate_batches": 8 * 128 // 64,
        "epochs": 600,
        "learning_rate": 0.5,
        "schedule": "cosine",
        "warmup_epochs": 5,
        "l2_penalty": 2e-5,
        "l2_penalty_on": "kernels",
        "label_smoothing": 0.1,
        "mixup_alpha": 0.2,
        "cutmix_alpha": 1,
        "weight_average_decay": 0.999966,
        "evaluation_shorter_side": 232,
    },
    "ffcv-88": {
        **RANDOM_AREA,
        "crop_size": 256,
        "crop_size_schedule": ((0, 160), (71, 192)),
        "zero_init_last_gamma": False,
        "accumulate_batches": 8 * 512 // 64,
        "epochs": 88,
        "learning_rate": 1.7,
        "schedule": "linear",
        "warmup_epochs": 2,
        "l2_penalty_on": "kernels",
        "label_smoothing": 0.1,
        "weight_average_decay": 0,
        "evaluation_shorter_side": round(256 / (224 / 256)),
    },
    "timm-a3": {
        **RANDOM_AREA,
        "crop_size_schedule": ((0, 160),),
        "trivial_augment": True,
        "zero_init_last_gamma": True,
        "accumulate_batches": 2048 // 64,
        "epochs": 100,
        "learning_rate": 8e-3,
        "schedule": "cosine",
        "warmup_epochs": 5,
        "optimizer": "lamb",
        "l2_penalty": 0,
        "weight_decay": 0.02,
        "l2_penalty_on": "kernels",
        "loss": "binary_cross_entropy",
        "target_threshold": 0.2,
        "label_smoothing": 0,
        "mixup_alpha": 0.1,
        "cutmix_alpha": 1,
        "weight_average_decay": 0,
        "evaluation_shorter_side": math.floor(224 / 0.95),
    },
}
# The same in all of them that say nothing else; the six steps are those of config.txt.
COMMON = {
    "variant": "v1.5",
    "batch_size": 64,
    "accumulate_batches": 4,
    "optimizer": "sgd",
    "momentum": 0.9,
    "nesterov": False,
    "l2_penalty": 1e-4,
    "weight_decay": 0,
    "loss": "cross_entropy",
    "mixup_alpha": 0,
    "cutmix_alpha": 0,
    "moving_average_decay": 0.9,
    "shorter_side_min": 256,
    "shorter_side_max": 480,
    "crop_size": 224,
    "crop_method": "shorter_side",
    "flip_probability": 0.5,
    "colour_jitter_stddev": 0.1,
    "trivial_augment": False,
    "erasing_probability": 0,
    "repeated_augmentation": 1,
    "evaluation_shorter_side": 256,
}

each_recipe = pytest.mark.parametrize("name", SOURCES)


def test_there_are_these_recipes():
    assert set(RECIPES) == set(SOURCES)


@each_recipe
def test_values_are_those_of_the_source(name):
    config = read_config(RECIPES[name])
    values = {
        **vars(config.augmentation),
        **vars(config.model),
        **vars(config.train),
        "evaluation_shorter_side": config.evaluation.shorter_side,
    }
    expected = {**COMMON, **SOURCES[name]}
    assert {key: values[key] for key in expected} == expected


@each_recipe
def test_a_recipe_has_no_paths_and_is_laid_over_config_txt(name):
    shipped, config = read_config(PROJECT / "config.txt"), read_config(RECIPES[name])
    raw = tomli.loads(RECIPES[name].read_text(encoding="utf-8"))
    assert raw.pop("base") == "../config.txt"
    evaluation = raw.pop("evaluation", {})
    assert evaluation.keys() <= {"shorter_side"}
    keys = {key for section in raw.values() for key in section}
    decays = {"decay_epochs", "decay_factor"}
    assert keys - decays <= COMMON.keys() | SOURCES[name].keys()
    assert config.dataset == shipped.dataset
    assert config.train.buffer_folder == shipped.train.buffer_folder
    assert config.runtime_preprocessing == shipped.runtime_preprocessing
    shipped_evaluation = dataclasses.replace(shipped.evaluation, **evaluation)
    assert config.evaluation == shipped_evaluation


@pytest.mark.parametrize(
    ("name", "epoch", "expected"),
    [
        ("he2015", 0, 0.1),
        ("he2015", 29, 0.1),
        ("he2015", 30, 0.01),
        ("he2015", 89, 0.001),
        # 5 epochs of 5,004 batches, and the first step has one share: 1 of 25,021.
        ("goyal2017", 0, 0.1 / 25_021),
        ("goyal2017", 2.5, 0.1 * 12_511 / 25_021),
        ("goyal2017", 5, 0.1),
        ("goyal2017", 30, 0.01),
        ("goyal2017", 60, 0.001),
        ("goyal2017", 80, 0.0001),
        ("ffcv2022", 2, 0.10625),
        ("ffcv2022", 21, 0.10625 / 2),
        ("ffcv2022", 40, 0),
        ("torchvision-v1", 29, 0.1),
        ("torchvision-v1", 60, 0.001),
        ("torchvision-v2", 5, 0.5),
        ("torchvision-v2", 302.5, 0.25),
        ("ffcv-88", 2, 1.7),
        ("ffcv-88", 45, 0.85),
        ("ffcv-88", 88, 0),
        ("timm-a3", 5, 0.008),
        ("timm-a3", 52.5, 0.004),
    ],
)
def test_learning_rates_by_hand(name, epoch, expected):
    config = read_config(RECIPES[name])
    numbers = PerStepNumbers(config.train, config.batch_renorm, 5004)
    rate = numbers.learning_rate(round(epoch * 5004))
    assert rate == pytest.approx(expected, rel=1e-12, abs=1e-15)


def relative_time(config) -> float:
    """Of an epoch, in proportion to the pixels, against crops of 224."""
    augmentation = config.augmentation
    sizes = [
        crop_size_at(e, augmentation.crop_size, augmentation.crop_size_schedule)
        for e in range(config.train.epochs)
    ]
    return sum((size / 224) ** 2 for size in sizes) / len(sizes)


@each_recipe
def test_gpu_hours_are_right_where_they_are_told(name):
    text, config = RECIPES[name].read_text(encoding="utf-8"), read_config(RECIPES[name])
    rows = re.findall(r"#   (.+), .+ ([\d,]+) images/s +([\d.]+) h\n", text)
    assert [card for card, _, _ in rows] == list(IMAGES_PER_SECOND)
    factor = re.search(r"/ \(images/s\) / 3600(?: \* ([\d.]+))?:\n", text)[1] or "1"
    assert float(factor) == round(relative_time(config), 3)
    hours = []
    for card, told_speed, told_hours in rows:
        speed = IMAGES_PER_SECOND[card]
        assert int(told_speed.replace(",", "")) == pytest.approx(speed, abs=5)
        exact = config.train.epochs * IMAGENET_IMAGES * relative_time(config) / speed
        hours.append(float(told_hours))
        assert hours[-1] == round(exact / 3600, 1)
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}`")]
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[3] == str(config.train.epochs)
    assert [float(cell) for cell in cells[5:8]] == hours
    assert re.search(r"# Published top-1: ([\d.]+) %", text)[1] == cells[4].split()[0]


@each_recipe
def test_the_advice_for_a_large_card_trains_the_same(name):
    text, config = RECIPES[name].read_text(encoding="utf-8"), read_config(RECIPES[name])
    train, shipped = config.train, read_config(PROJECT / "config.txt").train
    batch_size, group, buffer_size = map(
        int,
        re.search(
            r"batch_size = (\d+), accumulate_batches = (\d+), buffer_size = (\d+)\.",
            text,
        ).groups(),
    )
    images = train.batch_size * train.accumulate_batches
    assert batch_size * group == images
    assert f"{train.accumulate_batches} * 64 = {images} images" in text
    assert group % config.augmentation.repeated_augmentation == 0
    assert buffer_size * batch_size == shipped.buffer_size * shipped.batch_size


def test_fine_tuning_starts_from_published_weights():
    config = read_config(FINE_TUNING)
    assert (
        Origin(
            config.model.variant,
            config.model.epsilon,
            config.dataset.channel_mean,
            config.dataset.channel_std,
        )
        == PUBLISHED
    )
    assert config.train.nesterov and config.train.schedule == "cosine"
    assert config.train.backbone_rate_factor == 0.1  # "a tenth"


@each_recipe
def test_the_crop_sizes_are_those_at_which_the_time_is_told(name):
    text, config = RECIPES[name].read_text(encoding="utf-8"), read_config(RECIPES[name])
    for _, size in config.augmentation.crop_size_schedule:
        assert f"{size} * {size}" in text


def test_the_average_of_torchvision_s_second_recipe():
    text = RECIPES["torchvision-v2"].read_text(encoding="utf-8")
    kept = 1 - (1 - 0.99998) * 1024 * 32 / 600
    assert f"= {kept:.6f} every 32" in text
    assert f"{kept ** (1 / 32):.6f}" == "0.999966"


def test_the_epoch_at_which_ffcv_enlarges_its_crops():
    """Its get_resolution, for the 88 epochs."""
    sizes = np.interp(range(88), [65, 76], [160, 192])
    sizes = [round(size / 32) * 32 for size in sizes]
    assert sizes.index(192) == 71


def test_figures_in_the_comments():
    text = RECIPES["ffcv2022"].read_text(encoding="utf-8")
    updates = 1 / (1 - 0.99987)
    assert f"{updates:,.0f} updates" in text
    assert f"{IMAGENET_IMAGES // 256:,}, so" in text
    assert f"{updates / (IMAGENET_IMAGES // 256):.1f} of 40 epochs" in text
    share = (1 - 0.99998) * 1024 * 32 / 600  # torchvision's adjustment.
    assert round(32 / share / (IMAGENET_IMAGES / 1024)) == 23
    assert round(100 * 23 / 600) == round(100 * updates / 5004 / 40) == 4
