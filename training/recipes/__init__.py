"""Experiments, one file each: a `Config` of settings with their defaults, `run` to train, and a way to evaluate.

A recipe that can train several kinds of models has a `Config` for each in `MODELS`, the first being the default.
A recipe that answers texts with texts has `test_part`, the texts to evaluate by; any other one has `evaluate`, which
gives the figures of a finished run.
"""

from __future__ import annotations

import importlib
from types import ModuleType

NAMES = ("dates", "finetune_classifier", "language_model", "masked_language_model", "translate")


def config_of(recipe: ModuleType, model: str | None) -> type:
    """The settings of a recipe for a kind of model, or for its default.

    Raises: ValueError, naming the known ones, for another kind.
    """
    models = getattr(recipe, "MODELS", {})
    if model is None or (not models and model == getattr(recipe.Config, "model", None)):
        return recipe.Config
    if model not in models:
        known = ", ".join(models) or getattr(recipe.Config, "model", "its own")
        raise ValueError(f"The models of {recipe.Config.recipe} are {known}. Received: model={model!r}.")
    return models[model]


def load_recipe(name: str) -> ModuleType:
    """The module of a recipe.

    Raises: ValueError, naming the known ones, for another name.
    """
    if name not in NAMES:
        raise ValueError(f"The recipes are {', '.join(NAMES)}. Received: {name!r}.")
    return importlib.import_module(f"keras_seqattn.training.recipes.{name}")
