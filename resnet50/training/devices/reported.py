"""What TensorFlow reports about itself and its GPUs."""

import tensorflow as tf

from resnet50.checks.cuda import Build, Gpu


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
