"""Words to mask, for a model that guesses them from what stands on both sides.

A text is packed into windows, each of them [CLS] tokens [SEP]. Of a window's tokens 15 % are to be guessed; of these

    80 %    the model reads [MASK]
    10 %    it reads any other token in their place
    10 %    it reads what stands there

so that what it makes of a token is of use where nothing is masked too. Special tokens are never chosen. A window has a
fixed number M of slots for the chosen steps, so that a compiled step meets one shape; a slot without a step weighs 0.

Reference: Devlin et al. 2019, arXiv 1810.04805, sec. 3.1 and app. A.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from keras_seqattn.text import WordPieceTokenizer

MASK_SHARE, RANDOM_SHARE = 0.8, 0.1  # of the chosen steps; the rest is kept


class Masked(NamedTuple):
    """Windows with words to guess.

    Attributes:
        ids: (B, W) int32, what the model reads.
        steps: (B, M) int32, which steps it shall guess; 0 in a slot without one.
        targets: (B, M) int32, what stood there.
        weights: (B, M) float32, 1 for a step that counts, 0 for a slot without one.
    """

    ids: np.ndarray
    steps: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def rows(self, start: int, size: int) -> Masked:
        """`size` rows from `start` on; what is behind the last row is padding that weighs nothing."""
        return Masked(*(filled(values[start : start + size], size) for values in self))


def filled(values: np.ndarray, size: int) -> np.ndarray:
    """`values` with rows of zeros up to `size` rows."""
    return np.concatenate([values, np.zeros((size - len(values), *values.shape[1:]), values.dtype)])


def pack(pieces: Sequence[np.ndarray], window: int, tokenizer: WordPieceTokenizer) -> np.ndarray:
    """Pieces of text, one behind the other, in windows [CLS] tokens [SEP]; each token once, padding in the last window.

    Args:
        pieces: arrays of ids.
        window: int, steps W with [CLS] and [SEP].
    Returns: (N, W) int32.
    """
    ids = np.concatenate([np.zeros(0, "int32"), *pieces])
    inside = window - 2
    windows = np.full((-(-len(ids) // inside), window), tokenizer.pad_id, "int32")
    for row in range(len(windows)):
        tokens = ids[row * inside : (row + 1) * inside]
        windows[row, : len(tokens) + 2] = [tokenizer.start_id, *tokens, tokenizer.end_id]
    return windows


@dataclass(frozen=True)
class Masking:
    """Chooses the words of windows that are to be guessed, and hides them.

    Attributes:
        mask_id: of [MASK].
        special_ids: which are never chosen, nor put in the place of others.
        vocabulary_size: ids from 0.
        share: of a window's tokens that are chosen; one at least, where there is a token.
        slots: M, greatest number of chosen steps in a window.
    """

    mask_id: int
    special_ids: tuple[int, ...]
    vocabulary_size: int
    share: float
    slots: int

    @classmethod
    def of(cls, tokenizer: WordPieceTokenizer, window: int, share: float = 0.15) -> Masking:
        """With as many slots as a window of W steps, [CLS] and [SEP] among them, needs.

        Raises: ValueError when the share is not one, or the tokenizer has no [MASK] or no other token.
        """
        if not 0 < share <= 1:
            raise ValueError(f"The share of masked words must be above 0, and 1 at most. Received: {share=}.")
        mask_id: int | None = getattr(tokenizer, "mask_id", None)
        if mask_id is None:
            raise ValueError("Words are masked by a token, so the tokenizer must have one. Received: mask_token=None.")
        if tokenizer.vocabulary_size <= len(tokenizer.special_ids):
            raise ValueError("A vocabulary must have a token that is not special. Received: special tokens alone.")
        slots = int(counts_of(np.array([window - 2]), share)[0])
        return cls(mask_id, tuple(tokenizer.special_ids), tokenizer.vocabulary_size, share, slots)

    def __call__(self, windows: np.ndarray, rng: np.random.Generator) -> Masked:
        """Hides words of `windows` (B, W); which ones, `rng` alone decides."""
        may_be_chosen = ~np.isin(windows, self.special_ids)
        order = np.where(may_be_chosen, rng.random(windows.shape), 2.0)  # (B, W), special tokens last
        steps = np.argsort(order, axis=1)[:, : self.slots].astype("int32")  # (B, M)
        counts = np.minimum(counts_of(may_be_chosen.sum(axis=1), self.share), self.slots)  # (B,)
        counted = np.arange(self.slots) < counts[:, None]  # (B, M)
        steps = np.where(counted, steps, 0)
        targets = np.where(counted, np.take_along_axis(windows, steps, axis=1), 0)

        fate = rng.random(steps.shape)
        ordinary = np.setdiff1d(np.arange(self.vocabulary_size, dtype="int32"), self.special_ids)
        others = rng.choice(ordinary, steps.shape)
        read = np.where(fate < MASK_SHARE, self.mask_id, np.where(fate < MASK_SHARE + RANDOM_SHARE, others, targets))
        ids, (row, slot) = windows.copy(), np.nonzero(counted)
        ids[row, steps[row, slot]] = read[row, slot]
        return Masked(ids, steps, targets.astype("int32"), counted.astype("float32"))


def counts_of(lengths: np.ndarray, share: float) -> np.ndarray:
    """How many of so many tokens (B,) are chosen: the share, rounded, but one at least where there is one."""
    rounded = np.floor(lengths * share + 0.5).astype("int64")
    return np.minimum(np.maximum(rounded, 1), lengths)
