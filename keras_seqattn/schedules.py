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
