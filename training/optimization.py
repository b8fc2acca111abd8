"""How a training goes down: the optimizer, its learning rate over the steps, and what it does to gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import keras

from keras_seqattn.schedules import InverseSquareRootDecay
from keras_seqattn.training.settings import Settings


@dataclass(frozen=True)
class OptimizationSettings(Settings):
    """Adam, its schedule, and clipping."""

    learning_rate: float = 2e-3
    """highest learning rate, reached after the warm-up"""
    warmup_steps: int = 400
    """steps in which the learning rate rises from zero"""
    schedule: Literal["cosine", "inverse_sqrt"] = "cosine"
    """how the learning rate falls then: by a cosine to a fiftieth, or as one over the square root of the steps"""
    adam_beta_2: float = 0.999
    """share that Adam keeps of its mean of squared gradients at each step"""
    clip_norm: float = 1.0
    """greatest norm of all gradients together; larger ones are scaled down to it"""
    weight_decay: float = 0.0
    """share of each kernel that a step takes away, times the learning rate"""

    at_least: ClassVar[dict[str, float]] = {"warmup_steps": 0, "weight_decay": 0}
    above: ClassVar[dict[str, float]] = {"learning_rate": 0, "clip_norm": 0}


def optimizer(settings: OptimizationSettings, model: keras.Model, steps: int) -> keras.optimizers.Optimizer:
    """A new optimizer for a training of `model` of so many steps."""
    made = keras.optimizers.AdamW(
        learning_rate(settings, steps),
        weight_decay=settings.weight_decay,
        beta_2=settings.adam_beta_2,
        global_clipnorm=settings.clip_norm,
    )
    # Vectors, which are biases and norms, and embeddings keep what they learned.
    made.exclude_from_weight_decay([v for v in model.trainable_variables if not decays(v)])
    return made


def learning_rate(settings: OptimizationSettings, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate over `steps` training steps."""
    warmup = min(settings.warmup_steps, steps // 2)
    if settings.schedule == "inverse_sqrt":
        return InverseSquareRootDecay(settings.learning_rate, warmup)
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), alpha=0.02, warmup_target=settings.learning_rate, warmup_steps=warmup
    )


def decays(variable: keras.Variable) -> bool:
    """Whether weight decay acts on a variable: on kernels."""
    return len(variable.shape) > 1 and "embedding" not in variable.path
