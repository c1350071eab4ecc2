"""Proves that the arithmetic in docs/training-imagenet.md is right."""

import dataclasses
import math

import pytest

from resnet50.handoff.buffer import BatchSpec
from resnet50.training.checkpoint import checkpoint_bytes
from resnet50.training.update.step import create_training
from tests.docs.documents import read
from tests.settings import PROJECT, SETTINGS
from tests.test_recipes import IMAGENET_IMAGES, IMAGES_PER_SECOND

PAGE = read("training-imagenet.md")
ROWS = PAGE.splitlines()
PROSE = " ".join(PAGE.split())

CARDS = {
    "RTX 2080, float32": IMAGES_PER_SECOND["RTX 2080"],
    "RTX 2080 Ti, float32": 294,
    "V100, mixed precision": 1270,
    "A100, mixed precision": IMAGES_PER_SECOND["A100"],
    "H100, mixed precision": 4385,
}
ONE_WORKER = 430


def batch_bytes(dtype, batch_size):
    return BatchSpec(batch_size, 224, dtype, 1000).batch_bytes


@pytest.mark.parametrize("batch_size", [64, 256])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_the_buffer_s_sizes(dtype, batch_size):
    size = batch_bytes(dtype, batch_size)
    pixels = (
        batch_size * 224 * 224 * 3 * {"uint8": 1, "float16": 2, "float32": 4}[dtype]
    )
    assert batch_size != 64 or size - pixels <= 1300
    slow, fast = (
        f"{CARDS[card] / batch_size * size / 1e6:,.0f}"
        for card in ("RTX 2080, float32", "A100, mixed precision")
    )
    assert (
        f"| `{dtype}` | {batch_size} | {size / 1e6:.1f} MB | {200 * size / 1e9:.1f} GB "
        f"| {1000 * size / 1e9:.1f} GB | {slow} | {fast} |"
    ) in ROWS


def test_config_txt_tells_the_same_size():
    size = batch_bytes("float16", 64)
    text = (PROJECT / "config.txt").read_text(encoding="utf-8")
    assert f"{size / 1e6:.1f} MB, so 1000 of them are {size / 1e6:.1f} GB" in text


def test_figures_in_the_text_about_the_buffer():
    batches_per_second = 213 / 64
    assert f"{batches_per_second:.1f} batches of 64 per second" in PROSE
    assert f"1,000 batches last {1000 / batches_per_second:.0f} s" in PROSE
    assert f"200 last {200 / batches_per_second:.0f} s" in PROSE
    terabytes = batches_per_second * batch_bytes("float16", 64) * 7 * 86400 / 1e12
    assert f"float16 writes {terabytes:.1f} TB" in PROSE
    read_ahead = SETTINGS.train.read_ahead
    size = read_ahead * batch_bytes("float16", 64) / 1e6
    assert f"holds {read_ahead} batches in its own memory: {size:.0f} MB" in PROSE
    preprocessing = SETTINGS.runtime_preprocessing
    assert (
        f"sleeps up to {preprocessing.sleep_time:g} s while more than "
        f"{preprocessing.refill_below:.0%} are left".replace("%", " %")
    ) in PROSE


def test_batches_of_an_epoch():
    assert f"has {IMAGENET_IMAGES:,} training images" in PROSE
    assert f"{IMAGENET_IMAGES // 64:,} batches of 64" in PROSE
    assert f"{IMAGENET_IMAGES // 256:,} of 256" in PROSE
    # The last update of accumulate_batches = 4.
    assert IMAGENET_IMAGES // 64 % 4 == 2 and "the last update averages two" in PROSE


@pytest.mark.parametrize("card", CARDS)
def test_workers_and_time(card):
    speed = CARDS[card]
    workers = math.ceil(speed / ONE_WORKER)
    assert f"| {card} | {speed:,} | {workers} | {workers + 1} |" in ROWS
    seconds = IMAGENET_IMAGES / speed
    assert (
        f"| {card} | {speed:,} | {seconds / 60:.1f} | {30 * seconds / 3600:.1f} "
        f"| {90 * seconds / 3600:.1f} |"
    ) in ROWS


def test_which_cards_the_shipped_number_of_workers_is_enough_for():
    workers = SETTINGS.runtime_preprocessing.num_workers
    enough = [speed <= ONE_WORKER * workers for speed in CARDS.values()]
    assert enough == [True, True, True, False, False]
    assert (
        f"`num_workers = {workers}`, as shipped, is enough for the first three" in PROSE
    )


def test_bandwidth_of_the_images():
    image_bytes = 147_897_477_120 / IMAGENET_IMAGES  # Of ILSVRC2012_img_train.tar.
    assert f"are 147.9 GB, {image_bytes / 1e3:.0f} kB each" in PROSE
    assert f"213 images/s read {213 * image_bytes / 1e6:.0f} MB/s" in PROSE
    assert f"2,375 read {2375 * image_bytes / 1e6:.0f} MB/s" in PROSE


def test_what_checkpoints_take():
    train = dataclasses.replace(
        SETTINGS.train, accumulate_batches=4, weight_average_decay=0.99
    )
    training = create_training(1000, SETTINGS.model, train, None)
    accumulation, average = (
        checkpoint_bytes(training.accumulation),
        checkpoint_bytes(training.average),
    )
    plain = checkpoint_bytes(training) - accumulation - average
    for name, size in {
        "plain": plain,
        "`accumulate_batches` above 1": plain + accumulation,
        "`weight_average_decay` above 0": plain + average,
        "both": plain + accumulation + average,
    }.items():
        assert f"| {name} | {size / 1e6:.0f} MB | {90 * size / 1e9:.1f} GB |" in ROWS
    text = (PROJECT / "config.txt").read_text(encoding="utf-8")
    assert f"One is {plain / 1e6:.0f} MB" in text
    assert f"{accumulation / 1e9:.1f} GB for the sum" in PROSE
