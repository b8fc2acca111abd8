"""Packages that come with an extra of keras_seqattn."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["packages_of_extra"]


@contextmanager
def packages_of_extra(name: str) -> Iterator[None]:
    """Imports inside this context belong to the extra `name`; one that is missing says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(
            f"Serving needs the package {error.name!r}. Install it with: pip install 'keras_seqattn[{name}]'"
        ) from error
