"""What TensorFlow reports about itself and its GPUs, and a trial computation."""

import tensorflow as tf

from resnet50.checks.cuda import Build, Gpu
from resnet50.network.tracing import traced


def find_build() -> Build:
    """Reads for which CUDA and which cards the installed TensorFlow was built."""
    info = tf.sysconfig.get_build_info()
    return Build(
        tf.__version__,
        info.get("cuda_version", "") if info["is_cuda_build"] else "",
        info.get("cudnn_version", ""),
        tuple(info.get("cuda_compute_capabilities", ())),
    )


def describe_gpu(gpu: tf.config.PhysicalDevice) -> Gpu:
    """The name and the compute capability of a GPU, (0, 0) if unknown."""
    details = tf.config.experimental.get_device_details(gpu)
    name = details.get("device_name", gpu.name)
    return Gpu(name, details.get("compute_capability", (0, 0)))


def find_gpus() -> list[Gpu]:
    """The GPUs that TensorFlow finds; allocates none of their memory."""
    return [describe_gpu(gpu) for gpu in tf.config.list_physical_devices("GPU")]


def compute(*, with_xla: bool) -> float:
    """Computes a convolution and its gradient in one tf.function.

    On a card without kernels this may end the process, so call it in a separate one.

    Returns the sum of the gradient. Each of the 9 elements of a 3 x 3 kernel gets the
    number of the image's 4 x 4 ones that it is multiplied with: (3 + 4 + 3)^2 = 100.
    """

    @traced(jit_compile=with_xla)
    def gradient(images, kernel):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            outputs = tf.nn.conv2d(images, kernel, 1, "SAME")
        return tf.reduce_sum(tape.gradient(outputs, kernel))

    return float(gradient(tf.ones((1, 4, 4, 1)), tf.ones((3, 3, 1, 1))))
