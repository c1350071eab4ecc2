"""One variant of the training step, in a process of its own, for benchmarks.train_step.

Each line of its input is a number of steps; it makes these and prints a JSON line with
the time and memory they took. Its first line, after two steps, says that it is ready.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable

import numpy as np

import resnet50.training  # noqa: F401, which makes TensorFlow quiet.

# isort: split
import tensorflow as tf

from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.training.devices.protocol import OneDevice
from resnet50.training.update.loss import cross_entropy, label_targets
from resnet50.training.update.schedules import StepNumbers
from resnet50.training.update.step import create_training

NUM_CLASSES = 1000
LEARNING_RATE, MOMENTUM, L2_PENALTY = 0.01, 0.9, 1e-4

# Makes one step and returns its loss.
Step = Callable[[], tf.Tensor]


def make_ours(images, labels, args: argparse.Namespace) -> Step:
    """This project's step, with its totals of loss, top-1 and top-5."""
    import dataclasses
    from pathlib import Path

    from resnet50.config.toml_file import read_config

    config = read_config(Path(__file__).parent.parent / "config.txt")
    model = dataclasses.replace(config.model, variant="v1")
    train = dataclasses.replace(
        config.train,
        precision=args.precision,
        xla=args.xla,
        momentum=MOMENTUM,
        l2_penalty=L2_PENALTY,
    )
    statistics = ChannelStatistics((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    device = OneDevice(has_gpu=bool(tf.config.list_physical_devices("GPU")))
    training = create_training(NUM_CLASSES, model, train, statistics, device)
    numbers = StepNumbers(LEARNING_RATE)
    return lambda: training.step(images, labels, None, numbers)


def make_keras(images, labels, args: argparse.Namespace) -> Step:
    """Keras' ResNet50, loss and SGD in one tf.function; without metrics."""
    import keras

    policy = "float32" if args.precision == "float32" else f"mixed_{args.precision}"
    keras.mixed_precision.set_global_policy(policy)
    network = keras.applications.ResNet50(
        weights=None,
        classes=NUM_CLASSES,
        classifier_activation=None,
        input_shape=images.shape[1:],
    )
    optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM)
    is_scaled = args.precision == "float16"
    if is_scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    variables = network.trainable_variables
    optimizer.build(variables)
    kernels = [v.value for v in variables if v.path.endswith("kernel")]

    def step():
        with tf.GradientTape() as tape:
            logits = tf.cast(network(images, training=True), tf.float32)
            penalty = L2_PENALTY * tf.add_n([tf.nn.l2_loss(k) for k in kernels])
            targets = label_targets(labels, logits.shape[-1], 0.0)
            loss = cross_entropy(logits, targets) + penalty
            target = optimizer.scale_loss(loss) if is_scaled else loss
        gradients = tape.gradient(target, [v.value for v in variables])
        optimizer.apply(gradients, variables)
        return loss

    return tf.function(step, jit_compile=args.xla)


def run_steps(step: Step, num_steps: int) -> dict[str, float]:
    """Wall and processor seconds of some steps, up to the last one's loss."""
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(num_steps):
        loss = step()
    if not np.isfinite(loss.numpy()):
        raise SystemExit("the loss is not finite")
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - processor,
    }


def peak_bytes(gpus) -> int:
    """The most memory so far: the card's, or this process's without one."""
    if gpus:
        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Makes the network, and then the steps that the input asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("network", choices=["ours", "keras"])
    parser.add_argument("--batch_size", type=int)
    parser.add_argument("--crop_size", type=int)
    parser.add_argument("--precision")
    parser.add_argument("--xla", action="store_true")
    args = parser.parse_args()
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    rng = np.random.default_rng(0)
    shape = (args.batch_size, args.crop_size, args.crop_size, 3)
    images = tf.constant(rng.standard_normal(shape, np.float32))
    labels = tf.constant(rng.integers(0, NUM_CLASSES, args.batch_size, np.int32))
    make = {"ours": make_ours, "keras": make_keras}[args.network]
    step = make(images, labels, args)
    # The first step traces, the second may still allocate.
    run_steps(step, 2)
    print("ready", flush=True)
    for line in sys.stdin:
        figures = run_steps(step, int(line))
        print(json.dumps({**figures, "bytes": peak_bytes(gpus)}), flush=True)


if __name__ == "__main__":
    main()
