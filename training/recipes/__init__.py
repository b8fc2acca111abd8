"""Experiments, one file each: a `Config` of settings with their defaults, `run` to train, and a way to evaluate.

A recipe that answers texts with texts has `test_part`, the texts to evaluate by; any other one has `evaluate`, which
gives the figures of a finished run.
"""

from __future__ import annotations

import importlib
from types import ModuleType

NAMES = ("dates", "language_model", "translate")


def load_recipe(name: str) -> ModuleType:
    """The module of a recipe.

    Raises: ValueError, naming the known ones, for another name.
    """
    if name not in NAMES:
        raise ValueError(f"The recipes are {', '.join(NAMES)}. Received: {name!r}.")
    return importlib.import_module(f"keras_seqattn.training.recipes.{name}")
