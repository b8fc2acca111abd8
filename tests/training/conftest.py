"""The tiny runs, as fixtures. Other folders of tests import them, and share the runs themselves."""

from pathlib import Path

import pytest

from tests.training import runs
from tests.training.echo import echoing

__all__ = ["dates_run", "echo", "language_model_run", "translate_run"]


@pytest.fixture(scope="session")
def dates_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny run of the recipe dates. Look, do not write."""
    return runs.dates_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def translate_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny run of the recipe translate. Look, do not write."""
    return runs.translate_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def language_model_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny run of the recipe language_model. Look, do not write."""
    return runs.language_model_run(tmp_path_factory.getbasetemp())


@pytest.fixture
def echo():
    """Answers a text with itself: the alignment is the diagonal."""
    return echoing()
