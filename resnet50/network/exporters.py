"""A network with its preprocessing, as one function of images: SavedModel and ONNX.

The function takes decoded images and does the same as the evaluation: it resizes the
shorter side, crops the centre, normalizes, and applies the network and softmax. It
consists of TensorFlow's ops only, so loading it does not need this project.
"""

import json
import shutil
import tempfile
import uuid
from pathlib import Path

import tensorflow as tf

from resnet50.atomic_io import atomic_file, fsync, fsync_tree
from resnet50.errors import UserError
from resnet50.installation import install_command
from resnet50.network.layers import normalize_on_device
from resnet50.network.model import ResNet50
from resnet50.network.tracing import traced
from resnet50.pixels.augmentation import ChannelStatistics

try:
    import tf2onnx
except ImportError:
    tf2onnx = None

CLASS_NAMES_FILE = "class_names.json"
_ONNX_OPSET = 17
_INPUTS = [tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")]


class ExportError(UserError):
    """The network cannot be written."""


def resampling_weights(
    source_size: tf.Tensor, resized_size: tf.Tensor, first: tf.Tensor, length: int
) -> tf.Tensor:
    """Returns the weights of the source pixels in pixels of a resized line.

    Pillow's bilinear filter is a triangle, as wide as a resized pixel where the line
    shrinks (antialiasing) and as a source pixel where it grows.

    Sizes are int32 scalars, in pixels. The weights are those of ``length`` resized
    pixels from ``first`` on: float32 [length, source_size]; each row sums to 1.
    """
    scale = tf.cast(source_size, tf.float32) / tf.cast(resized_size, tf.float32)
    centres = (tf.cast(tf.range(length) + first, tf.float32) + 0.5) * scale
    sources = tf.cast(tf.range(source_size), tf.float32) + 0.5
    distances = tf.abs(sources - centres[:, None]) / tf.maximum(scale, 1.0)
    triangle = tf.nn.relu(1 - distances)
    return triangle / tf.reduce_sum(triangle, axis=1, keepdims=True)


def centre_crops(images: tf.Tensor, shorter_side: int, crop_size: int) -> tf.Tensor:
    """Resizes the shorter side of images and returns their centres.

    The same as pixels.resampling.views, on tensors, to 2 of 255 levels; on
    average 99 % of the values are equal. Both resize x, round to whole levels, and
    resize y.

    Maps uint8 [N, H, W, 3], RGB, to float32 [N, crop_size, crop_size, 3], whole numbers
    in 0..255. Sizes are in pixels; shorter_side is at least crop_size.
    """
    shape = tf.shape(images)
    height, width = shape[1], shape[2]
    shorter = tf.minimum(height, width)

    def weights(size: tf.Tensor) -> tf.Tensor:
        resized = size * shorter_side // shorter
        # Half of an odd margin is rounded to even, as Python's round does.
        first = tf.round(tf.cast(resized - crop_size, tf.float32) / 2)
        return resampling_weights(size, resized, tf.cast(first, tf.int32), crop_size)

    x = tf.cast(images, tf.float32)
    x = tf.floor(tf.einsum("xw,nhwc->nhxc", weights(width), x) + 0.5)
    return tf.floor(tf.einsum("yh,nhxc->nyxc", weights(height), x) + 0.5)


class Classifier(tf.Module):
    """Maps decoded images to probabilities.

    Attributes:
        class_names: In a SavedModel, a file with the names of the K classes as JSON.
    """

    def __init__(
        self,
        model: ResNet50,
        statistics: ChannelStatistics,
        *,
        shorter_side: int,
        crop_size: int,
    ):
        """Takes the network and its training statistics; see centre_crops."""
        super().__init__(name="classifier")
        self.model = model
        self._statistics = statistics
        self._shorter_side, self._crop_size = shorter_side, crop_size

    @traced(input_signature=_INPUTS)
    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Maps uint8 [N, H, W, 3], RGB, to "probabilities", float32 [N, K]."""
        crops = centre_crops(images, self._shorter_side, self._crop_size)
        logits = self.model(normalize_on_device(crops, None, self._statistics), False)
        return {"probabilities": tf.nn.softmax(logits)}


def write_saved_model(
    classifier: Classifier, class_names: tuple[str, ...], folder: Path
) -> None:
    """Writes a SavedModel with the names of the classes, whole or not at all.

    Raises:
        ExportError: The folder exists or cannot be written.
    """
    _require_absent(folder)
    temporary = folder.with_name(f".writing-{uuid.uuid4().hex}")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            names = Path(scratch) / CLASS_NAMES_FILE
            names.write_text(json.dumps(class_names))
            classifier.class_names = tf.saved_model.Asset(str(names))
            tf.saved_model.save(classifier, str(temporary))
        fsync_tree(temporary)
        temporary.rename(folder)
        fsync(folder.parent)
    except (OSError, tf.errors.OpError) as error:
        raise ExportError(f"{folder}: cannot be written: {error}") from None
    finally:
        # Only there if something went wrong.
        shutil.rmtree(temporary, ignore_errors=True)


def write_onnx(
    classifier: Classifier, class_names: tuple[str, ...], path: Path
) -> None:
    """Writes an ONNX file, whole or not at all; its metadata has the class names.

    Raises:
        ExportError: The file exists or cannot be written, or tf2onnx is missing.
    """
    _require_absent(path)
    if tf2onnx is None:
        raise ExportError(
            f"{path}: the package tf2onnx is not installed ({install_command('onnx')})"
        )
    function = traced(classifier.__call__.python_function)
    proto, _ = tf2onnx.convert.from_function(
        function, input_signature=_INPUTS, opset=_ONNX_OPSET
    )
    entry = proto.metadata_props.add()
    entry.key, entry.value = "class_names", json.dumps(class_names)
    try:
        with atomic_file(path) as file:
            file.write(proto.SerializeToString())
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror}") from None


def _require_absent(path: Path) -> None:
    if path.exists():
        raise ExportError(f"{path}: exists (move it away, or give another --output)")
