"""Proves that an exported network gives the evaluation's probabilities by itself.

Its crops are those of Pillow to 2 of 255 levels; a SavedModel is loaded in a process
that has TensorFlow and nothing of this project.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from resnet50.network import exporters
from resnet50.network.exporters import (
    CLASS_NAMES_FILE,
    Classifier,
    ExportError,
    centre_crops,
    write_onnx,
    write_saved_model,
)
from resnet50.pixels.augmentation import ChannelStatistics, normalization_table
from resnet50.pixels.resampling import views
from tests import recorded_disk
from tests.network import parity

STATISTICS = ChannelStatistics((0.48, 0.45, 0.40), (0.27, 0.26, 0.28))
SIDE, CROP = 73, 64
CLASS_NAMES = ("tench", "caf\udce9\n", *map(str, range(8)))
SIZES = [(64, 64), (73, 73), (50, 90), (131, 97), (500, 375), (61, 400)]


def draw_image(width, height):
    """Smooth and sharp at once, as photographs are."""
    rng = np.random.default_rng([width, height])
    coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((width, height)), np.int32)
    noise = rng.integers(-30, 31, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def pillow_crop(image):
    image = Image.fromarray(image)
    return views(image, shorter_side=SIDE, crop_size=CROP, num_crops=1)


@pytest.fixture(scope="module")
def model():
    return parity.create_network("v1.5", 1e-5)


@pytest.fixture
def classifier(model):
    return Classifier(model, STATISTICS, shorter_side=SIDE, crop_size=CROP)


@pytest.mark.parametrize("size", SIZES)
def test_crops_are_pillow_s(size):
    image = draw_image(*size)
    crop, expected = centre_crops(image[None], SIDE, CROP).numpy(), pillow_crop(image)
    differences = np.abs(crop - expected)
    assert differences.max() <= 2
    assert np.mean(differences == 0) > 0.99


def evaluated(model, image):
    """Probabilities as the evaluation computes them."""
    table = normalization_table(STATISTICS).astype(np.float32)
    crop = pillow_crop(image)
    x = np.stack([table[c].take(crop[..., c]) for c in range(3)], axis=-1)
    return tf.nn.softmax(model(x, is_training=False)).numpy()


PROGRAM = """if True:
    import json, sys
    import numpy as np
    import tensorflow as tf
    folder, images, output = sys.argv[1:]
    model = tf.saved_model.load(folder)
    classify = model.signatures["serving_default"]
    found = {}
    for name, image in np.load(images).items():
        found[name] = classify(images=tf.constant(image))["probabilities"].numpy()
    np.savez(output, **found)
    print(len(json.load(open(model.class_names.asset_path.numpy()))))
    assert not any(name.startswith("resnet50") for name in sys.modules)
"""


def test_a_saved_model_needs_only_tensorflow(tmp_path, monkeypatch, classifier, model):
    folder, images, output = (tmp_path / n for n in ("model", "in.npz", "out.npz"))
    with monkeypatch.context() as patched:
        calls = recorded_disk.record(patched)
        write_saved_model(classifier, CLASS_NAMES, folder)
    # It also survives a power cut.
    flushed = [name for call, name in calls if call == "flush"]
    assert {path.name for path in folder.rglob("*")} <= set(flushed)
    assert flushed[-1] == tmp_path.name
    inputs = {f"{w}x{h}": draw_image(w, h)[None].repeat(2, 0) for w, h in SIZES}
    np.savez(images, **inputs)
    words = [sys.executable, "-c", PROGRAM, str(folder), str(images), str(output)]
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == str(len(CLASS_NAMES))
    with np.load(output) as found:
        for name, image in inputs.items():
            assert found[name].shape == (2, parity.NUM_CLASSES)
            # A level of difference here and there moves them by less than a percent.
            for row in found[name]:
                np.testing.assert_allclose(
                    row, evaluated(model, image[0])[0], atol=0.01
                )
    names = json.loads((folder / "assets" / CLASS_NAMES_FILE).read_text())
    assert tuple(names) == CLASS_NAMES
    with pytest.raises(ExportError, match="exists"):
        write_saved_model(classifier, CLASS_NAMES, folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.npz", "model", "out.npz"]


def test_an_onnx_file_gives_the_same_probabilities(tmp_path, classifier):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    write_onnx(classifier, CLASS_NAMES, path)
    session = onnxruntime.InferenceSession(path)
    for size in SIZES:
        images = draw_image(*size)[None].repeat(2, 0)
        (probabilities,) = session.run(["probabilities"], {"images": images})
        expected = classifier(images)["probabilities"]
        np.testing.assert_allclose(probabilities, expected, atol=0.01)
    metadata = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(metadata["class_names"])) == CLASS_NAMES
    with pytest.raises(ExportError, match="exists"):
        write_onnx(classifier, CLASS_NAMES, path)


def test_what_cannot_be_written_is_told(tmp_path, classifier, monkeypatch):
    monkeypatch.setattr(exporters, "tf2onnx", None)
    with pytest.raises(ExportError, match=r"pip install -e '\.\[onnx\]'"):
        write_onnx(classifier, CLASS_NAMES, tmp_path / "model.onnx")
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="cannot be written"):
        write_saved_model(classifier, CLASS_NAMES, tmp_path / "file" / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
