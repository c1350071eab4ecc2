"""The graph of a training step as a GPU would run it, examined without a GPU.

TensorFlow's wheel for the CPU registers the kernels for GPUs too, and Grappler, which
optimizes graphs, works for a GPU that is only described.
"""

import dataclasses
from collections import Counter

import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow.core.protobuf.device_properties_pb2 import NamedDevice
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig
from tensorflow.python.framework import kernels, meta_graph, op_def_registry
from tensorflow.python.grappler import cluster, tf_optimizer

from resnet50.network.model import STAGES
from resnet50.training.devices.protocol import OneDevice
from resnet50.training.update.step import Training, create_training
from tests.settings import SETTINGS
from tests.training.tiny import STATISTICS

_HOST = "/job:localhost/replica:0/task:0/device:"

# Ops that launch no kernel on a GPU: they pass a buffer on, or only the host runs them.
_WITHOUT_KERNEL = {
    *("Const", "Placeholder", "NoOp", "Identity", "IdentityN", "VarHandleOp"),
    *("ReadVariableOp", "AssignVariableOp", "Shape", "ShapeN"),
    *("Reshape", "ExpandDims", "Squeeze"),
}
_CALLS = {"StatefulPartitionedCall", "PartitionedCall"}


def create_gpu_training(
    normalization="batch_norm", stages=STAGES, trainable="all", **settings
) -> Training:
    """Creates the Training of a ResNet-50 for 1000 classes, as for a GPU.

    Args:
        normalization: The key of [model].
        stages: Fewer have the same kinds of ops.
        trainable: The key of [model].
        settings: Keys of [train] that differ from config.txt as shipped.
    """
    model = dataclasses.replace(
        SETTINGS.model, normalization=normalization, trainable=trainable
    )
    train = dataclasses.replace(SETTINGS.train, **settings)
    return create_training(1000, model, train, STATISTICS, OneDevice(True), stages)


def trace(
    training: Training, batch_size=64, dtype="float16", name="step", crop_size=224
):
    """Returns the graph of ``training.step`` or ``accumulate``, a ConcreteFunction."""
    has_shifts = dtype == "uint8"
    function = {
        "step": training._compiled_step,
        "accumulate": training._compiled_accumulate,
    }[name]
    return function.get_concrete_function(
        tf.TensorSpec([batch_size, crop_size, crop_size, 3], dtype),
        tf.TensorSpec([batch_size], tf.int32),
        tf.TensorSpec([batch_size, 3], tf.float32) if has_shifts else None,
        tf.TensorSpec([4], tf.float32),
    )


def nodes(function):
    """All nodes of a ConcreteFunction's graph, with those of its functions."""
    graph = function.graph.as_graph_def()
    yield from graph.node
    for inner in graph.library.function:
        yield from inner.node_def


def ops_without_gpu_kernel(function) -> Counter:
    """Counts the ops for whose types TensorFlow has no kernel on a GPU."""
    missing = Counter()
    for node in nodes(function):
        if node.op not in _CALLS and not _has_gpu_kernel(node):
            missing[node.op] += 1
    return missing


def _has_gpu_kernel(node) -> bool:
    definition = op_def_registry.get(node.op)
    defaults = {attr.name: attr.default_value for attr in definition.attr}

    def fits(constraint) -> bool:
        value = node.attr.get(constraint.name, defaults.get(constraint.name))
        types = [value.type] if value.type else value.list.type
        return set(types) <= set(constraint.allowed_values.list.type)

    return any(
        kernel.device_type in ("GPU", "DEFAULT") and all(map(fits, kernel.constraint))
        for kernel in kernels.get_registered_kernels_for_op(node.op).kernel
    )


def optimize(function, compute_capability: str) -> GraphDef:
    """The graph that TensorFlow would run on a GPU, after all optimizations.

    Args:
        function: A ConcreteFunction.
        compute_capability: Of the card, such as "8.0".
    """
    graph, kept = function.graph.as_graph_def(), []
    for node in graph.node:
        node.device = _HOST + ("CPU:0" if node.op == "NoOp" else "GPU:0")
        if node.op.startswith(("Assign", "ResourceApply")):
            kept.append(node.name)
    kept += [output.op.name for output in function.outputs]
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(graph, name="")
    meta = meta_graph.create_meta_graph_def(graph=imported)
    meta.collection_def["train_op"].node_list.value.extend(sorted(set(kept)))
    config = ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1
    config.graph_options.rewrite_options.meta_optimizer_iterations = RewriterConfig.TWO
    return tf_optimizer.OptimizeGraph(
        config, meta, cluster=_describe_gpu(compute_capability), verbose=False
    )


def _describe_gpu(compute_capability: str) -> cluster.Cluster:
    gpu, cpu = NamedDevice(name=_HOST + "GPU:0"), NamedDevice(name=_HOST + "CPU:0")
    gpu.properties.type, cpu.properties.type = "GPU", "CPU"
    gpu.properties.vendor = "NVIDIA"
    gpu.properties.memory_size = 80 << 30
    environment = gpu.properties.environment
    environment["architecture"] = compute_capability
    environment["cuda"], environment["cudnn"] = "12050", "9300"
    return cluster.Cluster(
        disable_detailed_stats=True, disable_timeline=True, devices=[cpu, gpu]
    )


def count_kernels(graph: GraphDef) -> Counter:
    """Counts the kernels that a graph launches on a GPU, by op."""
    return Counter(node.op for node in graph.node if node.op not in _WITHOUT_KERNEL)


# Ops whose first output may take the memory of an input that nothing else needs.
_IN_PLACE = {"Relu", "ReluGrad", "AddV2", "AddN", "Mul", "SelectV2", "Sub"}
_ALIASES = {"Reshape", "Identity", "ExpandDims", "Squeeze"}


def peak_bytes(function) -> int:
    """The most bytes that live at once in the tensors that the graph computes.

    In the order of tracing, each tensor lives from its op to the last one that reads
    it. Variables, arguments, cuDNN's workspaces and fragmentation come on top.
    """
    operations = function.graph.get_operations()
    source: dict[str, str] = {}  # of each alias

    def root(tensor) -> str:
        return source.get(tensor.name, tensor.name)

    last_use: dict[str, int] = {}
    for index, operation in enumerate(operations):
        if operation.type in _ALIASES:
            source[operation.outputs[0].name] = root(operation.inputs[0])
        for tensor in operation.inputs:
            last_use[root(tensor)] = index
    for tensor in function.outputs:
        last_use[root(tensor)] = len(operations)

    live: dict[str, int] = {}
    peak = 0
    for index, operation in enumerate(operations):
        if operation.type not in _WITHOUT_KERNEL:
            ended = [root(t) for t in operation.inputs if last_use[root(t)] == index]
            for number, tensor in enumerate(operation.outputs):
                size = _num_bytes(tensor)
                donors = (name for name in ended if live.get(name) == size)
                donor = next(donors, None) if number == 0 else None
                if donor is not None and operation.type in _IN_PLACE:
                    del live[donor]
                live[tensor.name] = size
        peak = max(peak, sum(live.values()))
        for name in [n for n in live if last_use.get(n, index) <= index]:
            del live[name]
    return peak


def _num_bytes(tensor: tf.Tensor) -> int:
    if tensor.dtype == tf.resource or tensor.shape.num_elements() is None:
        return 0
    return tensor.shape.num_elements() * tensor.dtype.size
