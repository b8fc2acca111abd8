"""How a training computes: precision and XLA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from keras_seqattn.training.settings import Settings


@dataclass(frozen=True)
class ComputationSettings(Settings):
    """What layers compute in, and what compiles the training step."""

    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """what layers compute in; weights are float32 always"""
    xla: Literal["auto", "on", "off"] = "auto"
    """whether the training step is compiled by XLA; auto: on a GPU or TPU, and on a CPU where this recipe measured
    faster"""

    xla_on_cpu: ClassVar[bool] = False  # what "auto" means on a CPU; a recipe that measured faster with XLA says True

    def use_xla(self) -> bool:
        """Whether the training step is compiled by XLA on this machine."""
        if self.xla != "auto":
            return self.xla == "on"
        import tensorflow as tf

        return self.xla_on_cpu or bool(tf.config.list_physical_devices("GPU") or tf.config.list_logical_devices("TPU"))
