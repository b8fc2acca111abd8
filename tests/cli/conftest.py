"""Tiny runs, shared with the other folders."""

from tests.training.conftest import dates_run, echo, language_model_run, translate_run

__all__ = ["dates_run", "echo", "language_model_run", "translate_run"]
