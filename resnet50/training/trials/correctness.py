"""Trials of the result of a step: against another device, repeated, and placed."""

import dataclasses
import hashlib
from collections import Counter

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from resnet50.training.trials.subject import Subject
from resnet50.training.update.step import Training

# In float16 the first steps may only lower the loss scale, from 2^15 to at least 1.
_MAX_STEPS = 16

# Ops that compute nothing: the host may keep constants, and calls and copies between
# devices are on both sides.
_NO_COMPUTE = {
    *("Const", "NoOp", "_Arg", "_Retval", "_Send", "_Recv", "_HostSend", "_HostRecv"),
    *("Identity", "IdentityN", "StatefulPartitionedCall", "PartitionedCall"),
}


def _first_update(subject: Subject) -> tuple[float, list[np.ndarray], Training]:
    """The loss and the gradients of one step.

    The velocities start at zero, so they are the gradients after the first update.
    """
    with subject.scope():
        training = subject.create()
        for number in range(_MAX_STEPS):
            loss = float(training.step(*subject.random_batch()))
            if int(training.totals.num_skipped.numpy()) == number:
                break
    return loss, [v.numpy() for v in training.optimizer.velocities], training


def _norm(arrays) -> float:
    return float(np.sqrt(sum(np.sum(np.square(a, dtype=np.float64)) for a in arrays)))


def compare_devices(subject: Subject, reference: str, is_smooth: bool) -> dict:
    """Compares the loss and all gradients of a step with another device's in float32.

    Differences are 2-norms, relative to the reference's. The network can be the real
    one at its start; many of its gradients are exactly 0, because of the zeros of
    zero_init_last_gamma. A rounding error makes its gradients jump at the kinks of ReLU
    and maximum. With all gammas 1 these jumps would add up to as much as the gradient.

    Args:
        subject: The step.
        reference: The other device.
        is_smooth: Whether softplus and mean take the place of ReLU and maximum. Then
            all gammas are 1, and no gradient is 0.
    """
    subject.set_up()
    if is_smooth:
        tf.nn.relu, tf.nn.max_pool2d = tf.nn.softplus, tf.nn.avg_pool2d
    model = {**subject.model, "zero_init_last_gamma": not is_smooth}
    subject = dataclasses.replace(subject, model=model)
    expected = dataclasses.replace(
        subject,
        device=reference,
        train={**subject.train, "precision": "float32", "xla": False},
        pads_in_op=False,
    )
    loss, gradients, training = _first_update(subject)
    expected_loss, expected_gradients, _ = _first_update(expected)
    errors = [a - b for a, b in zip(gradients, expected_gradients, strict=True)]
    ratios = [
        # Where all is 0, so is the error.
        _norm([error]) / (_norm([gradient]) or 1.0)
        for error, gradient in zip(errors, expected_gradients)
    ]
    worst = int(np.argmax(ratios))
    return {
        "device": training.optimizer.velocities[0].device.rpartition("device:")[2],
        "num_gradients": len(gradients),
        "loss": loss,
        "loss_difference": abs(loss - expected_loss) / abs(expected_loss),
        "gradient_difference": _norm(errors) / _norm(expected_gradients),
        "worst_difference": ratios[worst],
        "worst_variable": training.model.trainable_variables[worst].name,
    }


def hash_weights(subject: Subject, num_steps: int) -> dict:
    """Trains deterministically; returns the SHA-256 of all variables."""
    subject.set_up()
    digest = hashlib.sha256()
    with subject.scope():
        training = subject.create()
        for seed in range(num_steps):
            loss = training.step(*subject.random_batch(seed))
        for variable in training.variables:
            digest.update(variable.numpy().tobytes())
    return {"sha256": digest.hexdigest(), "loss": float(loss)}


def find_ops_elsewhere(subject: Subject) -> dict:
    """Makes a step, which may not leave its device; counts the ops that did."""
    subject.set_up()
    elsewhere: Counter[str] = Counter()
    num_ops = 0
    with subject.scope():
        training = subject.create()
        arguments = training.place(*subject.random_batch())
        tf.config.set_soft_device_placement(False)
        context.enable_run_metadata()
        loss = float(training.step(*arguments))
        metadata = context.export_run_metadata()
    for graph in metadata.partition_graphs:
        for node in graph.node:
            if node.op not in _NO_COMPUTE:
                num_ops += 1
                if not node.device.endswith(f"device:{subject.device}"):
                    elsewhere[node.op] += 1
    return {"num_ops": num_ops, "elsewhere": dict(elsewhere), "loss": loss}
