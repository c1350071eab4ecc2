"""Our weights in keras.applications.ResNet50, layer by layer."""

import tensorflow as tf

from resnet50.network.model import NORMALIZATIONS

# Keras's own epsilon of this network.
KERAS_EPSILON = 1.001e-5


def pair_with_keras(model, keras_model):
    """Pairs each layer of ours with Keras's, as (ours, theirs)."""
    pairs = [
        (model.stem_convolution, "conv1_conv"),
        (model.stem_normalization, "conv1_bn"),
        (model.classifier, "predictions"),
    ]
    for stage_number, blocks in enumerate(model.stages, start=2):
        for block_number, block in enumerate(blocks, start=1):
            prefix = f"conv{stage_number}_block{block_number}"
            layers = [
                (block.convolution1, block.normalization1),
                (block.convolution2, block.normalization2),
                (block.convolution3, block.normalization3),
            ]
            if block.has_projection:
                layers.insert(0, (block.projection, block.projection_normalization))
            first = 0 if block.has_projection else 1  # Keras's projection is 0.
            for number, (convolution, normalization) in enumerate(layers, first):
                pairs.append((convolution, f"{prefix}_{number}_conv"))
                pairs.append((normalization, f"{prefix}_{number}_bn"))
    return [(layer, keras_model.get_layer(name)) for layer, name in pairs]


def copy_weights_to_keras(pairs):
    """Copies our weights into Keras's layers and returns the trainable ones in pairs.

    Keras's convolutions have biases, which have no counterpart: they are set to zero.
    """
    variable_pairs = []
    for layer, keras_layer in pairs:
        if isinstance(layer, tuple(NORMALIZATIONS.values())):
            assert keras_layer.epsilon == KERAS_EPSILON
            keras_layer.moving_mean.assign(layer.moving_mean)
            keras_layer.moving_variance.assign(layer.moving_variance)
            names = ("gamma", "beta")
        elif hasattr(layer, "bias"):
            names = ("kernel", "bias")
        else:
            keras_layer.bias.assign(tf.zeros_like(keras_layer.bias))
            names = ("kernel",)
        for name in names:
            variable, keras_variable = getattr(layer, name), getattr(keras_layer, name)
            keras_variable.assign(variable)
            variable_pairs.append((variable, keras_variable.value))
    return variable_pairs
