"""LAMB: Adam's update, with a step as long as each tensor of weights is large."""

import math
from collections.abc import Sequence

import tensorflow as tf

from resnet50.training.vectors import join, split_like

# The defaults of timm's Lamb. The last one limits the norm of all gradients together.
BETA_1, BETA_2 = 0.9, 0.999
EPSILON = 1e-6
MAX_GRADIENT_NORM = 1.0


class Lamb(tf.Module):
    """Trains variables by LAMB (You et al. 2019, arXiv 1904.00962), as timm does.

        gradient = gradient / max(1, norm of all gradients / MAX_GRADIENT_NORM)
        mean   = BETA_1 * mean + (1 - BETA_1) * gradient
        square = BETA_2 * square + (1 - BETA_2) * gradient^2
        update = mean / (1 - BETA_1^t) / (sqrt(square / (1 - BETA_2^t)) + EPSILON)

    at update number t = 1, 2, ... For decayed variables, each with its own norms:

        update = update + weight_decay * variable
        update = update * norm of variable / norm of update

    where the last factor is 1 if a norm is 0 or weight_decay is 0. Finally:

        variable = variable - learning_rate * update

    Attributes:
        mean, square: float32 [V], for the values of all variables; 0 at the start.
        num_updates: int64, the t of the last update. All three are in a checkpoint.
    """

    def __init__(
        self,
        variables: Sequence[tf.Variable],
        decayed: Sequence[tf.Variable],
        weight_decay: float,
        rate_factors: Sequence[float] | None = None,
    ):
        """Creates the moments of the variables to train; decayed are some of these.

        rate_factors is as for SGDMomentum.
        """
        super().__init__(name="lamb")
        zeros = tf.zeros_like(join(variables))
        with self.name_scope:
            self.mean, self.square = (
                tf.Variable(zeros, trainable=False, name=name)
                for name in ("mean", "square")
            )
            self.num_updates = tf.Variable(
                0, dtype=tf.int64, trainable=False, name="num_updates"
            )
        # Behind a function, as in optimizer.SGDMomentum.
        self._get_variables = lambda: variables
        self._rate_factors = rate_factors or [1.0] * len(variables)
        self._decayed = {v.ref() for v in decayed} if weight_decay else set()
        self._weight_decay = weight_decay

    def apply_gradients(
        self,
        gradients: Sequence[tf.Tensor],
        learning_rate: tf.Tensor | float,
        is_finite: tf.Tensor | None = None,
    ) -> None:
        """Makes one step; see SGDMomentum.apply_gradients."""
        variables = self._get_variables()
        gradient = join(gradients)
        gradient /= tf.maximum(tf.norm(gradient) / MAX_GRADIENT_NORM, 1.0)
        mean = BETA_1 * self.mean + (1 - BETA_1) * gradient
        square = BETA_2 * self.square + (1 - BETA_2) * tf.square(gradient)
        num_updates = self.num_updates + 1
        # 1 - BETA^t; the difference would lose four digits of float32.
        logarithms = [math.log(BETA_1), math.log(BETA_2)]
        rest = -tf.math.expm1(tf.cast(num_updates, tf.float32) * logarithms)
        if is_finite is not None:
            learning_rate = tf.where(is_finite, learning_rate, 0.0)
            mean = tf.where(is_finite, mean, self.mean)
            square = tf.where(is_finite, square, self.square)
            num_updates = tf.where(is_finite, num_updates, self.num_updates)
        update = mean / rest[0] / (tf.sqrt(square / rest[1]) + EPSILON)
        parts = split_like(update, variables)
        for variable, part, factor in zip(
            variables, parts, self._rate_factors, strict=True
        ):
            if variable.ref() in self._decayed:
                part += self._weight_decay * variable
                norm = tf.norm(variable)
                ratio = tf.math.divide_no_nan(norm, tf.norm(part))
                part *= tf.where(ratio > 0, ratio, 1.0)
            rate = learning_rate if factor == 1 else factor * learning_rate
            variable.assign_sub(rate * part)
        self.mean.assign(mean)
        self.square.assign(square)
        self.num_updates.assign(num_updates)
