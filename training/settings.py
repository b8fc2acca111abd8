"""What settings have in common: a description for the command line, bounds, and a record for the run's folder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Settings:
    """Base of settings: frozen dataclasses; each field has a default and a docstring, the command line's help.

    A class states the bounds of its own fields, `at_least` or `above`; those of its bases hold too, and each class's
    dicts hold them all.

    Raises: ValueError when a setting is out of its bounds, before anything is written.
    """

    at_least: ClassVar[dict[str, float]] = {}
    above: ClassVar[dict[str, float]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for bounds in ("at_least", "above"):
            stated = [vars(base).get(bounds, {}) for base in reversed(cls.__mro__)]
            setattr(cls, bounds, {name: bound for one in stated for name, bound in one.items()})

    def __post_init__(self) -> None:
        for name, bound in self.at_least.items():
            value = getattr(self, name)
            if not value >= bound:
                raise ValueError(f"`{name}` must be at least {bound}. Received: {name}={value}.")
        for name, bound in self.above.items():
            value = getattr(self, name)
            if not value > bound:
                raise ValueError(f"`{name}` must be above {bound}. Received: {name}={value}.")

    def as_dict(self) -> dict[str, Any]:
        """Each setting by its name."""
        return dataclasses.asdict(self)
