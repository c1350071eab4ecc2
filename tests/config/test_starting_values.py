"""Proves that the values of a new configuration fit, for any images and machine."""

import pytest

from resnet50.config.starting_values import Circumstances, choose_values
from resnet50.config.toml_file import read_config, write_changed
from tests.settings import PROJECT

USUAL = Circumstances(375, 1_281_167, 16, 12_000_000_000, 10**12, "/dev/shm/b", 64e9)


def test_imagenet_has_the_shipped_crops_and_batches():
    changes, _ = choose_values(USUAL)
    shipped = read_config(PROJECT / "config.txt")
    for key, value in changes["augmentation"].items():
        assert getattr(shipped.augmentation, key) == value
    for key in ("batch_size", "epochs", "learning_rate", "buffer_size"):
        assert changes["train"][key] == getattr(shipped.train, key)
    assert changes["evaluation"]["shorter_side"] == shipped.evaluation.shorter_side
    assert changes["runtime_preprocessing"]["num_workers"] == 15


@pytest.mark.parametrize("shorter_side", [1, 40, 63, 80, 120, 256, 4000])
@pytest.mark.parametrize("num_images", [2, 9, 100, 5_000, 10**7])
@pytest.mark.parametrize(
    ("num_cores", "card", "disk", "memory"),
    [(1, None, 0, 0), (2, 6_000_000_000, 10**10, 10**8), (64, 8e10, 1e13, 1e12)],
)
def test_the_result_is_valid(
    tmp_path, shorter_side, num_images, num_cores, card, disk, memory
):
    at = Circumstances(shorter_side, num_images, num_cores, card, disk, "/r", memory)
    changes, lines = choose_values(at)
    path = tmp_path / "config.txt"
    write_changed(PROJECT / "config.txt", path, changes)
    config = read_config(path)
    train, crop_size = config.train, config.augmentation.crop_size
    assert train.batch_size <= num_images
    assert crop_size == 32 or crop_size <= shorter_side * 7 / 8
    bytes_used = train.buffer_size * train.batch_size * crop_size**2 * 6
    free = memory / 4 if str(train.buffer_folder) == "/r" else disk / 2
    assert bytes_used <= free or train.buffer_size == 1
    for line in lines.values():
        assert "\n" not in line


@pytest.mark.parametrize(
    ("num_images", "batch_size", "epochs", "rate"),
    [(100, 8, 200, 0.003125), (1000, 64, 200, 0.025), (20_000, 64, 96, 0.025)],
)
def test_few_images_get_small_batches_and_more_epochs(
    num_images, batch_size, epochs, rate
):
    train = choose_values(USUAL._replace(num_images=num_images))[0]["train"]
    found = train["batch_size"], train["epochs"], train["learning_rate"]
    assert found == (batch_size, epochs, rate)


def test_a_small_card_gets_half_the_batch():
    small = USUAL._replace(card_bytes=6_000_000_000)
    assert choose_values(small)[0]["train"]["batch_size"] == 32


def test_a_buffer_that_fits_into_memory_is_there_and_others_on_the_disk():
    for memory, folder in ((80e9, "/dev/shm/b"), (70e9, "buffer")):
        train = choose_values(USUAL._replace(ram_disk_bytes=memory))[0]["train"]
        assert train["buffer_folder"] == folder
