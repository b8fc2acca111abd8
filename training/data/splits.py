"""What every text-to-text task gives: pairs to learn from, to choose by, and to report on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

Pair = tuple[str, str]


@dataclass(frozen=True)
class Splits:
    """(source, target) pairs in three parts."""

    train: list[Pair]
    validation: list[Pair]
    test: list[Pair]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over all pairs in their order and parts: the same content, the same fingerprint, on every machine."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            digest.update(b"%d pairs\n" % len(part))
            for pair in part:
                for text in pair:
                    content = text.encode("utf-8")
                    digest.update(b"%d:%b" % (len(content), content))  # the length first, so no two contents meet
        return digest.hexdigest()
