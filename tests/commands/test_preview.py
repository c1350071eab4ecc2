"""Proves that preview shows just the images of the batch that it was asked for."""

import numpy as np
import pytest
from PIL import Image

from resnet50.commands import preview
from resnet50.config import ConfigError
from resnet50.preprocessing.augmentation import ChannelStatistics
from tests.images import make_class_folders
from tests.settings import write_small_config


def test_denormalizing_gives_the_levels_back():
    statistics = ChannelStatistics((0.48, 0.45, 0.40), (0.27, 0.26, 0.28))
    levels = np.arange(256).repeat(3).reshape(1, 16, 16, 3)
    normalized = (levels / 255 - statistics.mean) / statistics.std
    shown = preview.denormalize(normalized.astype(np.float16), statistics)
    np.testing.assert_array_equal(shown, levels)


@pytest.fixture
def config(tmp_path):
    make_class_folders(tmp_path / "images" / "train", 3, 4)
    return write_small_config(tmp_path, augmentation={"colour_jitter_stddev": 0.0})


def run(monkeypatch, config, *flags):
    words = ["resnet50 preview", f"--config={config}", *flags]
    monkeypatch.setattr("sys.argv", words)
    preview.main()


def test_the_picture_shows_the_listed_images(tmp_path, config, monkeypatch, capsys):
    output = tmp_path / "sheet.png"
    run(monkeypatch, config, "--epoch=1", "--batch=2", f"--output={output}")
    paths = [
        line for line in capsys.readouterr().out.splitlines() if "/images/" in line
    ]
    assert len(paths) == 4
    with Image.open(output) as sheet:
        assert sheet.size == (8 * 112, 112 + 14)
        for index, path in enumerate(paths):
            with Image.open(path) as image:
                expected = image.convert("RGB").getpixel((0, 0))
            shown = sheet.getpixel((index * 112 + 56, 56))
            assert np.abs(np.subtract(shown, expected)).max() <= 1
        assert sheet.getpixel((4 * 112 + 56, 56)) == (255, 255, 255)


@pytest.mark.parametrize("address", [(-1, 0), (0, 3), (0, -1)])
def test_an_address_that_no_batch_has_is_an_error(config, monkeypatch, address):
    flags = [f"--epoch={address[0]}", f"--batch={address[1]}"]
    with pytest.raises(ConfigError, match="an epoch has the batches 0 to 2"):
        run(monkeypatch, config, *flags)
