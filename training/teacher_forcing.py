"""How often a decoder reads the right words while it trains, from all to a share that is reached at the end."""

from __future__ import annotations

from typing import Literal

import keras

from keras_seqattn.schedules import InverseSigmoidDecay

TeacherForcing = Literal["always", "linear", "exponential", "inverse_sigmoid"]


def teacher_forcing(
    kind: TeacherForcing, final: float, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The share of right words over `steps` training steps, which falls from one to `final` (Bengio et al. 2015).

    Raises: ValueError when `final` is not above 0 and at most 1.
    """
    if not 0 < final <= 1:
        raise ValueError(f"`final_teacher_forcing` is a share above 0 and at most 1. Received: {final=}.")
    if kind == "always" or final == 1:
        return 1.0
    if kind == "linear":
        return keras.optimizers.schedules.PolynomialDecay(1.0, steps, end_learning_rate=final)
    if kind == "exponential":
        return keras.optimizers.schedules.ExponentialDecay(1.0, steps, final)
    low, high = 1.0, 100.0 * steps  # the greater k, the later it falls
    for _ in range(100):
        k = (low + high) / 2
        low, high = (k, high) if float(InverseSigmoidDecay(k)(steps)) < final else (low, k)
    return InverseSigmoidDecay(k)
