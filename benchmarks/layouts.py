"""Measures the network's convolutions in NHWC against NCHW, on a GPU.

The network is NHWC, and TensorFlow, like XLA, may convert its convolutions to NCHW.
Here that is off: each convolution of the network runs forward and backward alone in
both layouts, with TensorFlow's layout optimizer off. So the difference is the cost of
the layout.
"""

import collections
import statistics
import time

import tensorflow as tf

from benchmarks.arithmetic import ConvolutionShape, convolutions

LAYOUTS = ("NHWC", "NCHW")


def make_convolution(
    shape: ConvolutionShape,
    layout: str,
    batch_size: int,
    precision: str,
    *,
    xla: bool = False,
):
    """Returns two functions that compute one convolution and both gradients.

    The first returns them in the given layout, the second in NHWC. The values are the
    same in both layouts: random, from a fixed seed.
    """
    order, back = ([0, 3, 1, 2], [0, 2, 3, 1]) if layout == "NCHW" else (None, None)

    def arrange(x, order):
        return x if order is None else tf.transpose(x, order)

    size = shape.in_size
    images = tf.random.stateless_normal(
        (batch_size, size, size, shape.in_channels), (0, 1)
    )
    kernel_shape = (shape.kernel_size,) * 2 + (shape.in_channels, shape.out_channels)
    kernel = tf.random.stateless_normal(kernel_shape, (0, 2))
    x = tf.Variable(tf.cast(arrange(images, order), precision))
    kernel = tf.Variable(tf.cast(kernel, precision))

    @tf.function(jit_compile=xla)
    def run():
        with tf.GradientTape() as tape:
            y = tf.nn.conv2d(x, kernel, shape.stride, "SAME", data_format=layout)
        # The output is its own cotangent, so that no part can be optimized away.
        return y, *tape.gradient(y, (x, kernel), output_gradients=y)

    def in_one_layout():
        y, x_gradient, kernel_gradient = run()
        return arrange(y, back), arrange(x_gradient, back), kernel_gradient

    return run, in_one_layout


def measure_layouts(
    batch_size: int,
    crop_size: int,
    precision: str,
    rounds: int,
    *,
    repetitions: int = 10,
    xla: bool = False,
) -> dict[str, float]:
    """Returns seconds of all convolutions of a step, by layout: medians over rounds."""
    tf.config.optimizer.set_experimental_options({"layout_optimizer": False})
    counts = collections.Counter(convolutions(crop_size, "v1.5"))
    seconds = dict.fromkeys(LAYOUTS, 0.0)
    for shape, count in counts.items():
        runs = {
            layout: make_convolution(shape, layout, batch_size, precision, xla=xla)[0]
            for layout in LAYOUTS
        }
        times = {layout: [] for layout in LAYOUTS}
        for number in range(rounds + 1):
            for layout, run in runs.items():
                started = time.perf_counter()
                for _ in range(repetitions):
                    results = run()
                results[-1].numpy()
                if number:  # The first round traces.
                    times[layout].append(time.perf_counter() - started)
        for layout in LAYOUTS:
            share = statistics.median(times[layout]) / repetitions
            seconds[layout] += count * share
    return seconds
