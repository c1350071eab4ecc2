"""Proves that preview shows exactly the images of the batch that the user names.

It reads the buffer's batch if there is one, and notices if that has changed.
"""

import itertools

import numpy as np
import pytest
from PIL import Image

from resnet50.commands import preview
from resnet50.config.settings import ConfigError
from resnet50.config.toml_file import read_config
from resnet50.dataset.class_folders import list_class_folders
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.manifest import write_manifest
from resnet50.handoff.progress import Position
from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.preprocessing.batches import Assignments, BatchSettings, make_batch
from resnet50.reports import previews
from resnet50.reports.previews import PreviewError
from tests.dataset.folders import touch
from tests.images import index_of, make_class_folders
from tests.settings import write_small_config

# Centres of a tile's two pictures, in a sheet of five columns; see contact_sheet.
ORIGINAL, CROP = (10 + 74, 34 + 74), (10 + 152 + 74, 34 + 74)
TILE = 310


def test_denormalizing_gives_the_levels_back():
    statistics = ChannelStatistics((0.48, 0.45, 0.40), (0.27, 0.26, 0.28))
    levels = np.arange(256).repeat(3).reshape(1, 16, 16, 3)
    normalized = (levels / 255 - statistics.mean) / statistics.std
    shown = previews.visible(normalized.astype(np.float16), None, statistics)
    np.testing.assert_array_equal(shown, levels)


@pytest.fixture
def config(tmp_path):
    make_class_folders(tmp_path / "images" / "train", 3, 4)
    return write_small_config(tmp_path, augmentation={"colour_jitter_stddev": 0.0})


def run(monkeypatch, config, *flags):
    words = ["resnet50 preview", f"--config={config}", *flags]
    monkeypatch.setattr("sys.argv", words)
    preview.main()


def settings_of(path):
    """Dataset, settings and buffer of a config.txt."""
    config = read_config(path)
    dataset = list_class_folders(config.dataset.training_images)
    buffer = BatchBuffer(config.train.buffer_folder)
    buffer.folder.mkdir(exist_ok=True)
    return dataset, BatchSettings.from_config(config), buffer


def fill(config, position):
    """Puts a batch into the buffer; returns the buffer and the batch."""
    dataset, settings, buffer = settings_of(config)
    batch = make_batch(settings, Assignments(dataset, settings)[position])
    buffer.write(position, batch.images, batch.labels, batch.shifts)
    write_manifest(buffer.folder, settings.manifest(dataset))
    return buffer, batch


def colours(sheet, index):
    """The colours in the middle of a tile's original and of its crop."""
    return [
        np.array(sheet.getpixel((x + index * TILE, y))) for x, y in (ORIGINAL, CROP)
    ]


def test_the_picture_shows_the_listed_images(tmp_path, config, monkeypatch, capsys):
    output = tmp_path / "sheet.png"
    run(monkeypatch, config, "--epoch=1", "--batch=2", f"--output={output}")
    printed = capsys.readouterr().out
    assert "made from its address: the buffer is empty" in printed
    paths = [line for line in printed.splitlines() if "/images/" in line]
    assert len(paths) == 4
    with Image.open(output) as sheet:
        assert sheet.size == (4 * TILE + 10, 34 + 192)
        for index, path in enumerate(paths):
            with Image.open(path) as image:
                expected = image.convert("RGB").getpixel((0, 0))
            for colour in colours(sheet, index):
                assert np.abs(colour - expected).max() <= 1


def test_a_full_sheet_fits_a_laptop(tmp_path, config, monkeypatch):
    output = tmp_path / "sheet.png"
    flags = ["--epoch=0", "--batch=0", "--batch_size=12", f"--output={output}"]
    run(monkeypatch, config, *flags)
    with Image.open(output) as sheet:
        assert sheet.size == (1560, 34 + 3 * 192)


def test_the_buffers_batch_is_shown(tmp_path, config, monkeypatch, capsys):
    """The buffer's batch is black, unlike the same batch created again."""
    position = Position(0, 1)
    buffer, batch = fill(config, position)
    black = (0 - np.array([0.4818, 0.44969, 0.39839])) / [0.27336, 0.26435, 0.27563]
    batch.images[:] = black
    buffer.write(position, batch.images, batch.labels)
    output = tmp_path / "sheet.png"
    run(monkeypatch, config, "--epoch=0", "--batch=1", f"--output={output}")
    read_from = f"read from {buffer.images_path(position)}\n"
    assert read_from in capsys.readouterr().out
    with Image.open(output) as sheet:
        original, crop = colours(sheet, 0)
    assert crop.max() == 0
    assert original.max() > 0


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_check_proves_the_batch_and_finds_a_changed_bit(
    tmp_path, monkeypatch, capsys, dtype
):
    make_class_folders(tmp_path / "images" / "train", 3, 4)
    config = write_small_config(tmp_path, train={"dtype": dtype})
    position = Position(1, 2)
    buffer, batch = fill(config, position)
    output = tmp_path / "sheet.png"
    flags = ["--epoch=1", "--batch=2", "--check", f"--output={output}"]
    run(monkeypatch, config, *flags)
    assert "bitwise equal to the same batch created again" in capsys.readouterr().out
    batch.images[2].reshape(-1).view(np.uint8)[100] ^= 1
    buffer.write(position, batch.images, batch.labels, batch.shifts)
    with pytest.raises(PreviewError, match="in 1 of 4 images, first at index 2"):
        run(monkeypatch, config, *flags)


def test_a_buffer_with_other_settings_is_not_believed(config, monkeypatch):
    fill(config, Position(0, 0))
    flags = ["--epoch=0", "--batch=0", "--batch_size=3", "--check"]
    with pytest.raises(PreviewError, match="batch_size is 4 there and 3 here"):
        run(monkeypatch, config, *flags)


def test_a_damaged_file_is_named_and_the_batch_created_again(
    tmp_path, config, monkeypatch, capsys
):
    buffer, _ = fill(config, Position(0, 0))
    path = buffer.images_path(Position(0, 0))
    path.write_bytes(path.read_bytes()[:-1])
    output = tmp_path / "sheet.png"
    run(monkeypatch, config, "--epoch=0", "--batch=0", f"--output={output}")
    printed = capsys.readouterr().out
    assert "made from its address" in printed
    assert "torn?" in printed


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"crop_size_schedule": [[4, 32]]},
        {"repeated_augmentation": 2, "crop_method": "random_area"},
    ],
    ids=str,
)
def test_an_image_is_followed_through_the_epochs_as_its_batches_show_it(tmp_path, keys):
    """In the batches themselves, a colour encodes an image's index."""
    sizes = {"shorter_side_min": 68, "shorter_side_max": 82, "crop_size": 64}
    changes = {"colour_jitter_stddev": 0.0, **sizes, **keys}
    make_class_folders(tmp_path / "images" / "train", 3, 4)
    evaluation = {"shorter_side": 72}
    config = write_small_config(tmp_path, augmentation=changes, evaluation=evaluation)
    dataset, settings, _ = settings_of(config)
    assignments = Assignments(dataset, settings)
    times = previews.showings(5, 3, dataset, settings)
    for showing in itertools.islice(times, 4):
        batch = make_batch(settings, assignments[showing.position])
        levels = previews.visible(batch.images, None, settings.statistics)
        assert index_of(levels[showing.index, 0, 0]) == 5
        with Image.open(str(dataset.sources([5])[0])) as image:
            tile = previews.showing_tile(image.convert("RGB"), showing, settings)
        np.testing.assert_array_equal(tile.crop, levels[showing.index])


def test_epochs_that_drop_the_image_are_left_out(tmp_path):
    make_class_folders(tmp_path / "images" / "train", 3, 3)
    dataset, settings, _ = settings_of(write_small_config(tmp_path))
    epochs = [
        {s.position.epoch for s in itertools.islice(times, 8)}
        for times in (previews.showings(i, 0, dataset, settings) for i in range(9))
    ]
    # Of 9 images in batches of 4, each epoch drops one.
    assert all(sum(epoch not in e for e in epochs) == 1 for epoch in range(8))


def test_an_image_that_an_epoch_has_several_times_is_shown_as_often(tmp_path):
    """With balanced sampling, if its class is small."""
    train = {"sampling": "balanced"}
    for name, num_images in (("large", 9), ("small", 1)):
        touch(tmp_path / "images" / "train" / name, *map(str, range(num_images)))
    dataset, settings, _ = settings_of(write_small_config(tmp_path, train=train))
    times = list(itertools.islice(previews.showings(9, 0, dataset, settings), 9))
    assignments = Assignments(dataset, settings)
    assert {assignments[s.position].labels[s.index] for s in times} == {1}
    assert len({(s.position, s.index) for s in times}) == 9
    assert times[-1].position.epoch <= 2  # 4 or 5 of the 8 images of an epoch.


def test_compare_writes_a_sheet_of_25(tmp_path, config, monkeypatch, capsys):
    output = tmp_path / "sheet.png"
    flags = ["--epoch=0", "--batch=1", "--compare=3", f"--output={output}"]
    run(monkeypatch, config, *flags)
    assert capsys.readouterr().out.count("/images/") == 1
    with Image.open(output) as sheet:
        assert sheet.size == (1560, 34 + 5 * 192)
    with pytest.raises(PreviewError, match="a batch has the indices 0 to 3"):
        run(monkeypatch, config, "--epoch=0", "--batch=1", "--compare=4")


@pytest.mark.parametrize("address", [(-1, 0), (0, 3), (0, -1)])
def test_an_address_that_no_batch_has_is_an_error(config, monkeypatch, address):
    flags = [f"--epoch={address[0]}", f"--batch={address[1]}"]
    with pytest.raises(ConfigError, match="an epoch has the batches 0 to 2"):
        run(monkeypatch, config, *flags)
