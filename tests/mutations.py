"""Puts errors into copies of the source, one at a time, and demands that tests fail.

    python -m tests.mutations
    python -m tests.mutations --only relu

Each mutation replaces one piece of text in a temporary copy of the project and runs a
few named tests there. They must pass without it, and one of them must fail with it.
Otherwise the mutation has survived: the tests prove less than they say. Prints a line
for each mutation. The exit status is 1 if any survives or cannot be tried.

MUTATIONS has them all. If you move a file or change a line, change it there too;
test_mutations requires that each text occurs exactly once.
"""

import argparse
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.settings import PROJECT

ALL_PASSED, SOME_FAILED = 0, 1  # pytest's exit statuses

# Lets each pytest begin with TensorFlow loaded, which takes longer than most tests.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tensorflow", "pytest"])


class MutationError(Exception):
    """A mutation that cannot be tried."""


class Mutation(NamedTuple):
    """One error.

    Attributes:
        name: What the error is.
        file: Its path, relative to the project.
        old: A text that occurs once in the file.
        new: The text that replaces it.
        tests: Arguments of pytest, relative to tests/; one of these tests must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


LAYERS = "resnet50/network/layers.py"
NORMALIZATION = "resnet50/network/normalization.py"
SYNCHRONIZED = "resnet50/network/synchronized.py"
BOTTLENECK = "resnet50/network/bottleneck.py"
MODEL = "resnet50/network/model.py"
STEP = "resnet50/training/update/step.py"
GRADIENTS = "resnet50/training/update/gradients.py"
LOSS = "resnet50/training/update/loss.py"
OPTIMIZER = "resnet50/training/update/optimizer.py"
ACCUMULATION = "resnet50/training/update/accumulation.py"
LOSS_SCALE = "resnet50/training/update/loss_scale.py"
LAMB = "resnet50/training/update/lamb.py"
AVERAGING = "resnet50/training/update/averaging.py"
MIXING = "resnet50/training/update/mixing.py"
SCHEDULES = "resnet50/training/update/schedules.py"
AUGMENTATION = "resnet50/pixels/augmentation.py"
INPUTS = "resnet50/network/layers.py"
OPTIONAL_STEPS = "resnet50/pixels/optional_steps.py"
RANDOM_BOXES = "resnet50/pixels/random_boxes.py"
TRIVIAL_AUGMENT = "resnet50/pixels/trivial_augment.py"
PILLOW_NUMPY = "resnet50/pixels/pillow_numpy.py"
RESAMPLING = "resnet50/pixels/resampling.py"
KERNELS = "resnet50/pixels/kernels.py"
CHANNEL_STATS = "resnet50/preprocessing/channel_stats.py"
JPEG_REGIONS = "resnet50/dataset/jpeg_regions.py"
IMAGES = "resnet50/dataset/images.py"
TABLES = "resnet50/reports/tables.py"

_LAYERS = "network/test_layers.py::"
_CONVOLUTION = (f"{_LAYERS}test_convolution_equals_a_loop_over_pixels",)
_NORMALIZATION = "network/test_normalization.py::"
_EPSILON = (f"{_NORMALIZATION}test_epsilon_is_exactly_what_is_asked_for",)
_MOVING = (f"{_NORMALIZATION}test_moving_statistics_over_three_steps_by_hand",)
_R_AND_D = (f"{_NORMALIZATION}test_renormalization_r_and_d_by_hand",)
_NETWORK = ("network/test_parity.py::test_logits_and_gradients_equal_the_stored_ones",)
_VARIANT = ("network/test_model.py::test_a_variant_says_where_the_stride_is",)
_TYPES = (
    "training/update/test_precision.py::test_what_each_op_of_the_step_computes_in",
)
_GROUP = (
    "training/update/test_accumulation.py::test_parts_of_a_batch_make_the_update_of_the_whole",
)
_DIVISION = ("training/update/test_loss_scale.py::test_gradients_are_divided_exactly",)
_SMOOTHING = ("training/update/test_loss.py::test_label_smoothing_by_hand",)
_FROZEN = "network/test_frozen.py::"
_TUNED = "training/update/test_fine_tuning.py::"
_OPTIMIZER = ("training/update/test_optimizer.py",)
_LOSS = ("training/update/test_loss.py",)
_LAMB = ("training/update/test_lamb.py::test_six_updates_are_those_of_timm",)
_OPTIONAL = "pixels/test_optional_steps.py::"
_BOXES = (f"{_OPTIONAL}test_boxes_of_crops_are_those_of_torchvision",)
_OPERATIONS = (f"{_OPTIONAL}test_operations_are_those_of_torchvision",)
_BALANCED = (
    "dataset/test_images.py::test_each_class_and_each_image_of_a_class_is_drawn_equally_often",
)
_PATIENCE = ("reports/test_tables.py::test_patience_counts_epochs_since_the_best",)
_LATE = ("reports/test_tables.py::test_a_late_evaluation_does_not_continue_a_training",)
_CLASS_WEIGHTS = (
    "training/update/test_loss.py::test_class_weights_are_those_of_pytorch",
)
_CROPS = ("pixels/test_kernels.py::test_a_crop_is_pillows",)
_AUGMENTATION = "pixels/test_augmentation.py::"
_REGIONS = "dataset/test_jpeg_regions.py::"
_JOINT = "training/devices/test_joint.py::"
_FLIP = (f"{_AUGMENTATION}test_flip_is_the_mirror_image",)
_CORNERS = (
    f"{_AUGMENTATION}test_crop_fractions_are_down_and_right",
    f"{_AUGMENTATION}test_crop_positions_are_uniform_over_the_whole_range",
)
_SHIFT = (f"{_AUGMENTATION}test_colour_shift_of_two_colours_by_hand",)

MUTATIONS = (
    # Classes of unequal size, early stopping
    Mutation(
        "the rest of an epoch always given to the same classes",
        IMAGES,
        "(epoch * rest - rank + len(classes) - 1) // len(classes)",
        "epoch * int(rank < rest)",
        _BALANCED,
    ),
    Mutation(
        "an image of a class drawn again at the start of an epoch",
        IMAGES,
        "chosen.append(permuted(label, first)[skipped:])",
        "chosen.append(permuted(label, first)[: size - skipped])",
        _BALANCED,
    ),
    Mutation(
        "weights of classes on logits, not on their logarithms",
        LOSS,
        "class_weights * targets * tf.nn.log_softmax(logits)",
        "targets * tf.nn.log_softmax(class_weights * logits)",
        _CLASS_WEIGHTS,
    ),
    Mutation(
        "a patience that is one epoch longer",
        TABLES,
        "elif epoch - best >= patience:",
        "elif epoch - best > patience:",
        _PATIENCE,
    ),
    Mutation(
        "a training that a late evaluation continues",
        TABLES,
        "            return EarlyStop(best, epoch)\n    return None",
        "            last = EarlyStop(best, epoch)\n"
        "    return last if best is not None and epoch - best >= patience else None",
        _LATE,
    ),
    # Layers
    Mutation(
        'a convolution padded as "SAME" at stride 2',
        LAYERS,
        "if self.stride == 1 or margin == 0:",
        "if True:",
        _CONVOLUTION,
    ),
    Mutation(
        "a convolution padded one pixel too few above",
        LAYERS,
        "[[0, 0], [margin, margin], [margin, margin], [0, 0]]",
        "[[0, 0], [margin - 1, margin + 1], [margin, margin], [0, 0]]",
        _CONVOLUTION,
    ),
    Mutation(
        "the max pooling padded below and to the right alone",
        LAYERS,
        "[[0, 0], [1, 1], [1, 1], [0, 0]]",
        "[[0, 0], [0, 2], [0, 2], [0, 0]]",
        _NETWORK,
    ),
    Mutation(
        "batch normalization: epsilon 1.001e-5 at inference",
        NORMALIZATION,
        "epsilon=self.epsilon,\n            **mode",
        "epsilon=self.epsilon * (1 if mode['is_training'] else 1.001),\n"
        "            **mode",
        _EPSILON,
    ),
    Mutation(
        "batch normalization: epsilon 1.001e-5 in training",
        NORMALIZATION,
        "epsilon=self.epsilon,\n            **mode",
        "epsilon=self.epsilon * (1.001 if mode['is_training'] else 1),\n"
        "            **mode",
        _EPSILON,
    ),
    Mutation(
        "batch renormalization: epsilon 1.001e-5",
        NORMALIZATION,
        "epsilon=self.epsilon,\n            is_training=True,",
        "epsilon=1.001 * self.epsilon,\n            is_training=True,",
        _EPSILON,
    ),
    Mutation(
        "batch renormalization: epsilon 1.001e-5 in sigma",
        NORMALIZATION,
        "tf.sqrt(self.moving_variance + self.epsilon)",
        "tf.sqrt(self.moving_variance + 1.001 * self.epsilon)",
        _EPSILON,
    ),
    Mutation(
        "synchronized normalization: epsilon 1.001e-5",
        SYNCHRONIZED,
        "tf.math.rsqrt(variance + self.epsilon)",
        "tf.math.rsqrt(variance + 1.001 * self.epsilon)",
        _EPSILON,
    ),
    Mutation(
        "batch normalization: the moving variance is of biased ones",
        NORMALIZATION,
        "self.moving_variance.assign(normalized.batch_variance)",
        "kept = self.moving_average_decay * self.moving_variance\n"
        "        count = tf.cast(tf.size(x) / tf.size(self.gamma), tf.float32)\n"
        "        self.moving_variance.assign(\n"
        "            kept + (normalized.batch_variance - kept) * (count - 1) / count\n"
        "        )",
        _MOVING,
    ),
    Mutation(
        "batch renormalization: the moving variance is of biased ones",
        NORMALIZATION,
        "self._move_statistics(measured.batch_mean, unbiased_variance)",
        "self._move_statistics(measured.batch_mean, biased_variance)",
        _MOVING,
    ),
    Mutation(
        "synchronized normalization: the moving variance is of biased ones",
        SYNCHRONIZED,
        "variance * count / (count - 1)",
        "variance",
        _MOVING,
    ),
    Mutation(
        "batch renormalization: r is of the unbiased variance",
        NORMALIZATION,
        "biased_variance = unbiased_variance * (count - 1) / count",
        "biased_variance = unbiased_variance",
        _R_AND_D,
    ),
    Mutation(
        "batch normalization: the decay is the new share",
        NORMALIZATION,
        "exponential_avg_factor=1 - self.moving_average_decay",
        "exponential_avg_factor=self.moving_average_decay",
        _MOVING,
    ),
    Mutation(
        "batch renormalization: a gradient through r and d",
        NORMALIZATION,
        "return tf.stop_gradient(r), tf.stop_gradient(d)",
        "return r, d",
        (f"{_NORMALIZATION}test_no_gradient_flows_through_r_and_d",),
    ),
    Mutation(
        "batch renormalization: factors in float16",
        NORMALIZATION,
        "(x, self.gamma * r, ",
        "(x, tf.cast(tf.cast(self.gamma * r, x.dtype), tf.float32), ",
        (
            "training/update/test_precision.py"
            "::test_renormalization_s_factors_are_not_rounded_to_halves",
        ),
    ),
    Mutation(
        "synchronized normalization: moments in float16",
        SYNCHRONIZED,
        "tf.nn.moments(x, [0, 1, 2])",
        "(tf.cast(m, tf.float32)\n"
        "            for m in tf.nn.moments(tf.cast(x, tf.float16), [0, 1, 2]))",
        (f"{_NORMALIZATION}test_statistics_are_float32_whatever_is_normalized",),
    ),
    # The network
    Mutation(
        "no ReLU after the stem",
        MODEL,
        "tf.nn.relu(self.stem_normalization(x, is_training, limits))",
        "self.stem_normalization(x, is_training, limits)",
        _NETWORK,
    ),
    Mutation(
        "no ReLU after a block's second normalization",
        BOTTLENECK,
        "tf.nn.relu(self.normalization2(x, is_training, limits))",
        "self.normalization2(x, is_training, limits)",
        _NETWORK,
    ),
    Mutation(
        "no ReLU after a block's sum",
        BOTTLENECK,
        "return tf.nn.relu(x + shortcut)",
        "return x + shortcut",
        _NETWORK,
    ),
    Mutation(
        "a ReLU before a block's sum",
        BOTTLENECK,
        "return tf.nn.relu(x + shortcut)",
        "return tf.nn.relu(tf.nn.relu(x) + shortcut)",
        _NETWORK,
    ),
    Mutation(
        "a projection that is not normalized",
        BOTTLENECK,
        "shortcut = self.projection_normalization(shortcut, is_training, limits)",
        "pass",
        _NETWORK,
    ),
    Mutation(
        "moving statistics that frozen normalizations update",
        NORMALIZATION,
        "if is_training and self.is_trained:",
        "if is_training:",
        (f"{_FROZEN}test_frozen_parts_are_the_same_in_training_and_at_inference",),
    ),
    Mutation(
        "one more frozen stage",
        MODEL,
        "stage_number >= first_trained",
        "stage_number > first_trained",
        (f"{_FROZEN}test_the_trained_parts_are_those_from_the_named_one_on",),
    ),
    Mutation(
        "an l2 penalty on frozen kernels",
        MODEL,
        "isinstance(module, Convolution | Dense) and module.kernel.trainable",
        "isinstance(module, Convolution | Dense)",
        (f"{_TUNED}test_the_l2_penalty_leaves_frozen_weights_out",),
    ),
    Mutation(
        "the backbone's factor for the classifier",
        STEP,
        "1.0 if v.ref() in head else factor",
        "factor if v.ref() in head else 1.0",
        (f"{_TUNED}test_the_backbone_has_the_factor_and_the_classifier_does_not",),
    ),
    Mutation(
        "v1 for v1.5",
        MODEL,
        "(stride, 1) if settings.variant",
        "(1, stride) if settings.variant",
        _VARIANT,
    ),
    Mutation(
        "v1.5 for v1",
        MODEL,
        "else (1, stride),",
        "else (stride, 1),",
        _VARIANT + _NETWORK,
    ),
    Mutation(
        "average pooling in float16",
        MODEL,
        "x = tf.reduce_mean(x, axis=[1, 2])",
        "x = tf.reduce_mean(tf.cast(x, self._dtype), axis=[1, 2])\n"
        "        x = tf.cast(x, tf.float32)",
        _TYPES,
    ),
    # The step
    Mutation(
        "no l2 penalty in what is differentiated",
        GRADIENTS,
        "g + penalties[v.ref()] if",
        "g if",
        (
            "training/update/test_step.py"
            "::test_the_l2_penalty_may_include_gamma_beta_and_the_bias",
        ),
    ),
    Mutation(
        "no l2 penalty in the loss that is reported",
        GRADIENTS,
        "loss = forward.loss + penalty.loss",
        "loss = forward.loss",
        ("training/update/test_step.py::test_the_returned_loss_has_the_l2_penalty",),
    ),
    Mutation(
        "an l2 penalty without its half",
        LOSS,
        "loss = l2_penalty * tf.nn",
        "loss = 2 * l2_penalty * tf.nn",
        _LOSS,
    ),
    Mutation(
        "an l2 penalty in float16",
        LOSS,
        "tf.nn.l2_loss(vector)",
        "tf.cast(tf.nn.l2_loss(tf.cast(vector, tf.float16)), tf.float32)",
        _LOSS,
    ),
    Mutation(
        "the learning rate in the velocity",
        OPTIMIZER,
        "lr=rates[factor],\n                grad=gradient,",
        "lr=1.0,\n                grad=learning_rate * gradient,",
        _OPTIMIZER,
    ),
    Mutation(
        "Nesterov's momentum for the plain one",
        OPTIMIZER,
        "use_nesterov=self._use_nesterov,",
        "use_nesterov=not self._use_nesterov,",
        _OPTIMIZER,
    ),
    Mutation(
        "label smoothing spread over the other classes",
        LOSS,
        "spread = label_smoothing / num_classes",
        "spread = label_smoothing / (num_classes - 1)",
        _SMOOTHING,
    ),
    Mutation(
        "label smoothing without the label's part",
        LOSS,
        "1 - label_smoothing + spread",
        "1 - label_smoothing",
        _SMOOTHING,
    ),
    Mutation(
        "mixup's shares of the loss exchanged",
        LOSS,
        "own_share * targets + (1 - own_share) * partners(targets)",
        "own_share * partners(targets) + (1 - own_share) * targets",
        (
            "training/update/test_loss.py::test_loss_and_gradient_of_a_blended_label_by_hand",
        ),
    ),
    Mutation(
        "mixup in float16",
        MIXING,
        "images = tf.cast(images, tf.float32)",
        "mix = mix._replace(share=tf.cast(mix.share, images.dtype))",
        (
            "training/update/test_mixing.py::test_each_image_is_blended_with_the_one_before_it",
        ),
    ),
    Mutation(
        "a label's share that leaves out where the box ends at the edge",
        MIXING,
        "1 - num_replaced / size**2",
        "1 - tf.square(2 * mix.box_reach)",
        ("training/update/test_mixing.py::test_boxes_are_those_of_torchvision",),
    ),
    Mutation(
        "a threshold before the labels are mixed",
        LOSS,
        "targets = tf.cast(targets > target_threshold, tf.float32)",
        "targets = tf.round(targets)",
        ("training/update/test_loss.py::test_binary_cross_entropy_is_that_of_timm",),
    ),
    Mutation(
        "LAMB's norm of the update without the decay",
        LAMB,
        "tf.norm(part)",
        "tf.norm(part - self._weight_decay * variable)",
        _LAMB,
    ),
    Mutation(
        "LAMB whose gradients have no limit",
        LAMB,
        "gradient /= tf.maximum(tf.norm(gradient) / MAX_GRADIENT_NORM, 1.0)",
        "gradient *= 1",
        _LAMB,
    ),
    Mutation(
        "LAMB that counts skipped updates",
        LAMB,
        "tf.where(is_finite, num_updates, self.num_updates)",
        "tf.identity(num_updates)",
        ("training/update/test_lamb.py::test_skipped_updates_change_nothing",),
    ),
    Mutation(
        "256 levels between 0 and 1 on the device",
        LAYERS,
        "1 / (255 * std)",
        "1 / (256 * std)",
        (
            "network/test_layers.py"
            "::test_normalizing_on_the_device_is_normalizing_in_the_preprocessor",
        ),
    ),
    Mutation(
        "statistics that an overflow leaves behind",
        GRADIENTS,
        "tf.where(is_finite, join(moving), before)",
        "join(moving)",
        (
            "training/update/test_precision.py::test_a_step_that_overflows_leaves_no_trace",
        ),
    ),
    Mutation(
        "accumulated gradients that are not divided",
        ACCUMULATION,
        "means = [total / count for total in self.sums]",
        "means = [tf.identity(total) for total in self.sums]",
        _GROUP,
    ),
    Mutation(
        "gradients accumulated in float16",
        ACCUMULATION,
        "total.assign_add(gradient)",
        "total.assign_add(tf.cast(tf.cast(gradient, tf.float16), tf.float32))",
        _GROUP,
    ),
    Mutation(
        "gradients unscaled in float16",
        LOSS_SCALE,
        "vector * (1 / self.scale)",
        "tf.cast(tf.cast(vector, tf.float16) * tf.cast(1 / self.scale, tf.float16),"
        " tf.float32)",
        _DIVISION,
    ),
    Mutation(
        "gradients that stay scaled",
        LOSS_SCALE,
        "vector * (1 / self.scale)",
        "vector",
        _DIVISION,
    ),
    Mutation(
        "another ramp of the averaged weights",
        AVERAGING,
        "ramp = 9 / (10 +",
        "ramp = 10 / (10 +",
        (
            "training/update/test_averaging.py::test_the_average_over_four_updates_by_hand",
        ),
    ),
    Mutation(
        "a warm-up that begins with 0",
        SCHEDULES,
        "return base_learning_rate * (step + 1) / (warmup_steps + 1)",
        "return base_learning_rate * step / warmup_steps",
        ("training/update/test_schedules.py",),
    ),
    # Preprocessing
    Mutation(
        "a compiled flip of the colours, too",
        KERNELS,
        "out_lower[target + _TWO] = blue >> _BITS",
        "out_lower[target + _TWO] = (red if is_flipped else blue) >> _BITS",
        _FLIP,
    ),
    Mutation(
        "ratios of boxes turned around",
        RANDOM_BOXES,
        "width, height = _sides(pixels, ratio)",
        "height, width = _sides(pixels, ratio)",
        _BOXES,
    ),
    Mutation(
        "boxes that must be smaller than the image",
        RANDOM_BOXES,
        "0 < width <= image_width",
        "0 < width < image_width",
        _BOXES,
    ),
    Mutation(
        "an erased box as large as the crop",
        RANDOM_BOXES,
        "if height < size and width < size",
        "if height <= size and width <= size",
        (f"{_OPTIONAL}test_erased_boxes_are_those_of_torchvision",),
    ),
    Mutation(
        "a shear in the other direction",
        TRIVIAL_AUGMENT,
        "(1, 0.033 * level, 0, 0, 1, 0)",
        "(1, -0.033 * level, 0, 0, 1, 0)",
        _OPERATIONS,
    ),
    Mutation(
        "a smoothing that rounds down",
        TRIVIAL_AUGMENT,
        "(2 * sums + 13) // 26",
        "sums // 13",
        (f"{_OPTIONAL}test_all_steps_have_the_same_bytes_everywhere",),
    ),
    Mutation(
        "one random stream for two optional steps",
        OPTIONAL_STEPS,
        "[seed, _ERASING, *address]",
        "[seed, _TRIVIAL_AUGMENT, *address]",
        (f"{_OPTIONAL}test_all_steps_have_the_same_bytes_everywhere",),
    ),
    Mutation(
        "Pillow's flip upside down",
        PILLOW_NUMPY,
        "Image.Transpose.FLIP_LEFT_RIGHT",
        "Image.Transpose.FLIP_TOP_BOTTOM",
        ("pixels/test_kernels.py::test_a_whole_crop_is_numpys",),
    ),
    Mutation(
        "uint8 crops that are not flipped",
        AUGMENTATION,
        "crop, is_flipped=params.is_flipped)",
        "crop, is_flipped=params.is_flipped and not is_raw)",
        (
            "preprocessing/test_batches.py"
            "::test_uint8_batch_is_the_float16_batch_before_it_is_normalized",
        ),
    ),
    Mutation(
        "a crop that never reaches the edge",
        RANDOM_BOXES,
        "int(right * (size[0] - width + 1))",
        "int(right * (size[0] - width))",
        _CORNERS,
    ),
    Mutation(
        "down for right",
        RANDOM_BOXES,
        "down, right = fractions",
        "right, down = fractions",
        _CORNERS,
    ),
    Mutation(
        "a jitter with the variance for the deviation",
        AUGMENTATION,
        "rng.standard_normal(3) * settings.colour_jitter_stddev",
        "rng.standard_normal(3) * settings.colour_jitter_stddev**2",
        (f"{_AUGMENTATION}test_draw_takes_four_uniform_and_three_normal_numbers",),
    ),
    Mutation(
        "the unbiased covariance of the colours",
        AUGMENTATION,
        "            / num_pixels\n",
        "            / (num_pixels - 1)\n",
        _SHIFT,
    ),
    Mutation(
        "a jitter by the axes' deviations",
        AUGMENTATION,
        "math.copysign(eigenvalue, eigenvalue * max(axis, key=abs))",
        "math.copysign(abs(eigenvalue) ** 0.5, max(axis, key=abs))",
        _SHIFT,
    ),
    Mutation(
        "256 levels between 0 and 1",
        AUGMENTATION,
        "levels = np.arange(256) / 255",
        "levels = np.arange(256) / 256",
        (f"{_AUGMENTATION}test_table_is_float64_normalization",),
    ),
    Mutation(
        "a longer side that is rounded up",
        RESAMPLING,
        "return width * shorter_side // shorter, ",
        "return -(-width * shorter_side // shorter), ",
        (f"{_AUGMENTATION}test_resized_size_keeps_the_aspect_and_rounds_down",),
    ),
    Mutation(
        "resampled values that are rounded down",
        KERNELS,
        "_HALF = 1 << (_BITS - 1)",
        "_HALF = 0",
        _CROPS,
    ),
    Mutation(
        "weights that are rounded down",
        KERNELS,
        "int(0.5 + triangle[tap]",
        "int(triangle[tap]",
        _CROPS,
    ),
    Mutation(
        "resampling that does not smooth",
        KERNELS,
        "support = max(scale, 1.0)",
        "support = 1.0",
        _CROPS,
    ),
    Mutation(
        "resampling half a pixel off",
        KERNELS,
        "(pixel + 0.5) * scale",
        "pixel * scale",
        _CROPS,
    ),
    Mutation(
        "the unbiased variance of the channels",
        CHANNEL_STATS,
        "Fraction(square_sum, total.num_pixels) - mean**2",
        "(Fraction(square_sum, total.num_pixels) - mean**2) * Fraction(\n"
        "            total.num_pixels, total.num_pixels - 1\n"
        "        )",
        ("preprocessing/test_channel_stats.py::test_statistics_by_hand",),
    ),
    Mutation(
        "a validation crop whose odd margin is rounded down",
        RESAMPLING,
        "round(0.5 * (width - crop_size)), round(0.5 * (height - crop_size))",
        "(width - crop_size) // 2, (height - crop_size) // 2",
        ("training/test_evaluation.py::test_the_one_crop_is_the_centre",),
    ),
    Mutation(
        "validation crops mirrored upside down",
        RESAMPLING,
        "crops[:5, :, ::-1]",
        "crops[:5, ::-1]",
        (
            "training/test_evaluation.py::test_the_ten_crops_are_corners_centre_and_mirrors",
        ),
    ),
    Mutation(
        "a region of a file that its scan does not fill",
        JPEG_REGIONS,
        "found.start() == len(data) - 2",
        "found.start() > 0",
        (f"{_REGIONS}test_only_a_whole_decode_can_judge_others",),
    ),
    Mutation(
        "a region that is one column wide",
        JPEG_REGIONS,
        "_MIN_SIDE = 16",
        "_MIN_SIDE = 1",
        (f"{_REGIONS}test_narrow_regions_are_left_to_a_whole_decode",),
    ),
    Mutation(
        "a region that is rotated as EXIF says",
        JPEG_REGIONS,
        "apply_exif_orientation=False",
        "apply_exif_orientation=True",
        (f"{_REGIONS}test_the_orientation_in_exif_is_ignored",),
    ),
    # Several hosts
    Mutation(
        "a host that makes the rows of the chief",
        "resnet50/handoff/cluster.py",
        "Rows(self.index * size, (self.index + 1) * size)",
        "Rows(0, size)",
        ("handoff/test_cluster.py::test_the_rows_of_all_hosts_are_the_batch",),
    ),
    Mutation(
        "any host that decides when all save",
        "resnet50/training/devices/hosts.py",
        "wants_to_save = self._cluster.is_chief and self._wants_to_save()",
        "wants_to_save = self._wants_to_save()",
        (f"{_JOINT}test_all_save_after_the_same_step_when_the_chief_wants_to",),
    ),
    Mutation(
        "hosts that copy the chief's checkpoint though another has a newer one",
        "resnet50/training/session.py",
        "source = found.index(newest)",
        "source = 0",
        ("training/test_session.py",),
    ),
    # Files and servers
    Mutation(
        "an answer of a server that is accepted though it is cut off",
        "resnet50/dataset/remote/store.py",
        "if len(data) != stop - start:",
        "if False:",
        ("dataset/remote/test_store.py",),
    ),
    Mutation(
        "a short read that is taken for the end of the file",
        "resnet50/handoff/npy_file.py",
        "while num_read < len(chunk):",
        "if num_read < len(chunk):",
        ("handoff/test_npy_file.py",),
    ),
    Mutation(
        "a batch whose checksum is not compared",
        "resnet50/handoff/npy_file.py",
        "if is_checked and footer != _footer(sum(part.word_sum for part in parts)):",
        "if False:",
        ("handoff/test_buffer.py",),
    ),
    Mutation(
        "stale batches whose deletion may not reach the disk",
        "resnet50/handoff/manifest.py",
        "    fsync(folder)\n",
        "",
        ("handoff/test_manifest.py",),
    ),
    Mutation(
        "files of a checkpoint that may not reach the disk",
        "resnet50/training/checkpoint.py",
        "        fsync_tree(temporary)\n",
        "",
        ("training/test_checkpoint.py",),
    ),
    Mutation(
        "a deleted checkpoint that loses files before its name",
        "resnet50/training/checkpoint_folders.py",
        "    fsync(path.parent)  # Before",
        "    # Before",
        ("training/test_checkpoint.py",),
    ),
    Mutation(
        "a state.json whose damage is not noticed",
        "resnet50/training/checkpoint.py",
        "if expected is not None and expected != _state_sha256(state):",
        "if False:",
        ("test_bit_rot.py::test_checkpoint",),
    ),
)


def mutate(text: str, mutation: Mutation) -> str:
    """The text of a mutation's file with its error."""
    count = text.count(mutation.old)
    if count != 1:
        place = "not in" if count == 0 else f"{count} times in"
        raise MutationError(
            f"mutation {mutation.name}: its text is {place} {mutation.file}"
        )
    return text.replace(mutation.old, mutation.new)


def copy_project(folder: Path) -> Path:
    """Copies what the tests need; returns the copy."""
    copy = folder / "project"
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    copy.mkdir()
    for name in ("resnet50", "tests", "benchmarks", "docs", "recipes"):
        shutil.copytree(PROJECT / name, copy / name, ignore=ignored)
    for path in PROJECT.iterdir():
        if path.suffix in (".py", ".toml", ".txt", ".md"):
            shutil.copy2(path, copy)
    return copy


def run_tests(copy: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """The exit status of pytest and its output, up to the first failure."""
    log = copy.parent / "log"
    process = CONTEXT.Process(target=_run_pytest, args=(copy, tests, log))
    process.start()
    process.join()
    return process.exitcode, log.read_text(errors="replace")


def _run_pytest(copy: Path, tests: tuple[str, ...], log: Path) -> None:
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)
    os.environ["NUMBA_CACHE_DIR"] = str(copy.parent / "numba")
    # A mutation may leave a file's size and time unchanged.
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(copy))
    for name in list(sys.modules):
        if name.partition(".")[0] in ("resnet50", "tests"):
            del sys.modules[name]
    flags = ["-x", "-p", "no:cacheprovider"]
    sys.exit(int(pytest.main(flags + [f"tests/{test}" for test in tests])))


def try_mutation(copy: Path, mutation: Mutation) -> str | None:
    """The test that fails with a mutation, or None if all pass."""
    path = copy / mutation.file
    text = path.read_text()
    path.write_text(mutate(text, mutation))
    try:
        status, output = run_tests(copy, mutation.tests)
    finally:
        path.write_text(text)
    return judge(mutation, status, output)


def judge(mutation: Mutation, status: int, output: str) -> str | None:
    """The test that has failed, or None if all passed."""
    if status == ALL_PASSED:
        if " skipped" in output:
            raise MutationError(f"mutation {mutation.name}: its tests are skipped")
        return None
    failed = re.search(r"^FAILED (.+?)(?: - .*)?$", output, re.MULTILINE)
    if status != SOME_FAILED or not failed:
        raise MutationError(
            f"mutation {mutation.name}: its tests do not run:\n{output[-3000:]}"
        )
    return failed[1].removeprefix("tests/")


def run(mutations: tuple[Mutation, ...], folder: Path) -> int:
    """Tries mutations in a copy below a folder; returns how many are not caught."""
    copy = copy_project(folder)
    tests = tuple(dict.fromkeys(test for m in mutations for test in m.tests))
    status, output = run_tests(copy, tests)
    if status != ALL_PASSED:
        print(f"the tests fail without any mutation:\n{output[-3000:]}")
        return len(mutations)
    num_bad = 0
    for mutation in mutations:
        try:
            test = try_mutation(copy, mutation)
            result = f"caught by {test}" if test else "SURVIVED"
        except MutationError as error:
            test, result = None, str(error)
        num_bad += test is None
        print(f"{mutation.name}: {result}", flush=True)
    print(f"{len(mutations) - num_bad} of {len(mutations)} mutations caught")
    return num_bad


def main() -> None:
    """Runs the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="those whose name has this text")
    only = parser.parse_args().only
    mutations = tuple(m for m in MUTATIONS if only in m.name)
    if not mutations:
        sys.exit(f"--only={only}: no mutation has such a name")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(run(mutations, Path(folder)) > 0)


if __name__ == "__main__":
    main()
