"""What changes while a model trains, beside Keras's own `keras.optimizers.schedules`."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_seqattn")
class InverseSigmoidDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Stays near one for a while, then falls towards zero along a sigmoid.

        value = k / (k + exp(step / k))        sec. 2.4

    The paper's other two ways to anneal scheduled sampling are Keras's own: linear is
    `PolynomialDecay(1.0, decay_steps, end_learning_rate)`, exponential is `ExponentialDecay(1.0, 1, k)`.

    Args:
        k: float of at least 1, how slowly it falls: half is reached after k * log(k) steps.
    Call arguments:
        step: int, training steps so far.
    Raises: ValueError when `k` is below 1.
    Reference: Bengio et al. 2015, arXiv 1506.03099.
    Example:
        >>> round(float(InverseSigmoidDecay(k=100.0)(0)), 4), round(float(InverseSigmoidDecay(k=100.0)(461)), 2)
        (0.9901, 0.5)
    """

    def __init__(self, k):
        if not k >= 1:
            raise ValueError(f"`k` must be at least 1. Received: {k=}.")
        self.k = k

    def __call__(self, step):
        exponent = ops.cast(step, "float32") / self.k - ops.log(ops.cast(self.k, "float32"))
        return ops.sigmoid(-exponent)  # the same, and finite at every step

    def get_config(self):
        return {"k": self.k}


@keras.saving.register_keras_serializable(package="keras_seqattn")
class InverseSquareRootDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises evenly, then falls as one over the square root of the steps.

        value = learning_rate * min(step / warmup_steps, sqrt(warmup_steps / step))

    With `learning_rate` = (D * warmup_steps) ** -0.5 this is the schedule of Vaswani et al., eq. (3).

    Args:
        learning_rate: float above 0, the highest, which is reached after the warm-up.
        warmup_steps: int, at least 0; with 0 it falls from the first step on.
    Call arguments:
        step: int, training steps so far.
    Raises: ValueError when a number is out of its range.
    Reference: Vaswani et al. 2017, arXiv 1706.03762, sec. 5.3.
    Example:
        >>> rate = InverseSquareRootDecay(learning_rate=1.0, warmup_steps=100)
        >>> [round(float(rate(step)), 3) for step in (50, 100, 400)]
        [0.5, 1.0, 0.5]
    """

    def __init__(self, learning_rate, warmup_steps):
        if not learning_rate > 0:
            raise ValueError(f"`learning_rate` must be above 0. Received: {learning_rate=}.")
        if not warmup_steps >= 0:
            raise ValueError(f"`warmup_steps` must be at least 0. Received: {warmup_steps=}.")
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        step, warmup = ops.cast(step, "float32"), float(max(self.warmup_steps, 1))
        return self.learning_rate * ops.minimum(step / warmup, ops.sqrt(warmup / ops.maximum(step, 1.0)))

    def get_config(self):
        return {"learning_rate": self.learning_rate, "warmup_steps": self.warmup_steps}
