"""The optimizer: SGD with momentum, and the choice between it and LAMB."""

from collections.abc import Sequence

import tensorflow as tf

from resnet50.config.settings import TrainConfig
from resnet50.training.update.lamb import Lamb


class SGDMomentum(tf.Module):
    """Trains variables by SGD with momentum, in PyTorch's and TensorFlow's convention.

        velocity = momentum * velocity + gradient
        variable = variable - learning_rate * velocity

    The learning rate is outside the velocity, so a change of it takes effect at once
    and needs no correction (Goyal et al. 2017, arXiv 1706.02677, section 3, eq. 9).
    With Nesterov's momentum, in the form of torch.optim.SGD and Keras, the second line
    is, with the new velocity:

        variable = variable - learning_rate * (gradient + momentum * velocity)

    Attributes:
        momentum: Share of the velocity that a step keeps.
        velocities: One for each variable, 0 at the start; part of a checkpoint.
    """

    def __init__(
        self,
        variables: Sequence[tf.Variable],
        momentum: float,
        use_nesterov: bool = False,
        rate_factors: Sequence[float] | None = None,
    ):
        """Creates the velocities of the variables to train.

        The variables are not part of this module's checkpoint. rate_factors has a
        factor of the learning rate for each variable; None for 1.
        """
        super().__init__(name="sgd_momentum")
        assert 0 <= momentum < 1, momentum
        self.momentum = momentum
        self._use_nesterov = use_nesterov
        with self.name_scope:
            self.velocities = [
                tf.Variable(tf.zeros_like(variable), trainable=False, name="velocity")
                for variable in variables
            ]
        # Behind a function, because a checkpoint calls a variable by its shortest path:
        # the model's weights would be named optimizer/variables/0, 1, 2 and so on.
        self._get_variables = lambda: variables
        self._rate_factors = rate_factors or [1.0] * len(variables)

    def apply_gradients(
        self,
        gradients: Sequence[tf.Tensor],
        learning_rate: tf.Tensor | float,
        is_finite: tf.Tensor | None = None,
    ) -> None:
        """Makes one step with the gradients, in the order of the variables.

        Args:
            gradients: The gradients of the loss, float32.
            learning_rate: float32 scalar; inside a tf.function a tensor, so that a new
                value does not trace it again.
            is_finite: bool scalar; where it is false, gradients must be zeros, and
                weights and velocities stay as they are. None for true.
        """
        momentum = self.momentum
        if is_finite is not None:
            # velocity = 1 velocity + 0, variable = variable - 0 velocity. With a
            # tf.cond the host would have to wait for the GPU in every step.
            learning_rate = tf.where(is_finite, learning_rate, 0.0)
            momentum = tf.where(is_finite, momentum, 1.0)
        # With one tensor for each factor.
        rates = {
            factor: learning_rate if factor == 1 else factor * learning_rate
            for factor in self._rate_factors
        }
        updates = zip(
            *(self._get_variables(), self.velocities, gradients, self._rate_factors),
            strict=True,
        )
        for variable, velocity, gradient, factor in updates:
            # One fused op for both lines of the formula in the class's docstring.
            tf.raw_ops.ResourceApplyMomentum(
                var=variable.handle,
                accum=velocity.handle,
                lr=rates[factor],
                grad=gradient,
                momentum=momentum,
                use_nesterov=self._use_nesterov,
            )


def create_optimizer(
    variables: Sequence[tf.Variable],
    decayed: Sequence[tf.Variable],
    train: TrainConfig,
    rate_factors: Sequence[float] | None = None,
) -> SGDMomentum | Lamb:
    """Creates the optimizer of [train] in config.txt; decayed is for weight_decay."""
    if train.optimizer == "lamb":
        return Lamb(variables, decayed, train.weight_decay, rate_factors)
    return SGDMomentum(variables, train.momentum, train.nesterov, rate_factors)
