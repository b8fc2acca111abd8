"""Dropout that goes on as it would have."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


class SeedEachEpoch(keras.callbacks.Callback):
    """Makes what is drawn at random in an epoch depend on the seed and the epoch alone, as the order of the data does.

    Keras's checkpoints leave out the states of random generators, so without it a resumed run drops other features than
    an unbroken one.

    Args:
        seed: int, at least 0.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        states = [variable for variable in self.model.variables if variable.name == "seed_generator_state"]
        seeds = np.random.default_rng((self.seed, epoch)).integers(2**31, size=len(states))
        for state, seed in zip(states, seeds, strict=True):
            state.assign([seed, 0])  # seed, and how often it was drawn from
