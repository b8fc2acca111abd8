"""Batches of pairs of one length each, so that a compiled step meets few shapes, and each of them again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from .data.splits import Pair

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_seqattn.text import SentencePieceTokenizer, Tokenizer


@dataclass(frozen=True)
class Bucket:
    """Pairs of at most these lengths, padded to them, so many a batch."""

    source_length: int
    target_length: int
    batch_size: int


@dataclass(frozen=True)
class TokenizedPairs:
    """Pairs as ids, sorted into buckets.

    Attributes:
        sources, targets: arrays of ids, targets without start and end.
        bucket: (N,) index of each pair's bucket.
        buckets: the buckets, short to long.
        kept: (N,) which of the pairs these are.
        left_out: how many pairs were longer than the longest bucket.
    """

    sources: list[np.ndarray]
    targets: list[np.ndarray]
    bucket: np.ndarray
    buckets: tuple[Bucket, ...]
    kept: np.ndarray
    left_out: int

    @property
    def steps(self) -> int:
        """Batches in one pass, the last of each bucket filled up with empty rows."""
        counts = np.bincount(self.bucket, minlength=len(self.buckets))
        return int(sum(-(-count // bucket.batch_size) for count, bucket in zip(counts, self.buckets, strict=True)))

    def cut_otherwise(self, sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> TokenizedPairs:
        """The same pairs in other pieces, sorted into the same buckets; one that has grown too long stays as it was."""
        longest = self.buckets[-1]
        fits = [
            len(source) <= longest.source_length and len(target) < longest.target_length
            for source, target in zip(sources, targets, strict=True)
        ]
        sources = [new if fit else old for new, old, fit in zip(sources, self.sources, fits, strict=True)]
        targets = [new if fit else old for new, old, fit in zip(targets, self.targets, fits, strict=True)]
        bounds = [bucket.source_length for bucket in self.buckets]
        return replace(
            self, sources=sources, targets=targets, bucket=np.searchsorted(bounds, pair_lengths(sources, targets))
        )


def pair_lengths(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
    """The longer of source and target, with its end token, of each pair."""
    return np.array([max(len(source), len(target) + 1) for source, target in zip(sources, targets, strict=True)])


def tokenize(texts: Sequence[str], tokenizer: Tokenizer, chunk: int = 8192) -> list[np.ndarray]:
    """The ids of each text, in the graph, a chunk at a time."""
    rows: list[np.ndarray] = []
    for start in range(0, len(texts), chunk):
        ids = tokenizer.tokenize(texts[start : start + chunk])
        rows += np.split(ids.flat_values.numpy(), ids.row_splits.numpy()[1:-1])
    return rows


def tokenize_pairs(
    pairs: Sequence[Pair],
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    boundaries: Sequence[int],
    batch_tokens: int,
) -> TokenizedPairs:
    """Tokenizes pairs and sorts them into buckets by the longer of source and target (with its end token).

    Args:
        boundaries: greatest length of each bucket, ascending; longer pairs are left out and counted.
        batch_tokens: steps in a batch, padding counted: a bucket of length n has about `batch_tokens` / n rows.
    Raises: ValueError when the boundaries do not ascend, or no pair is short enough.
    """
    if not boundaries or list(boundaries) != sorted(set(boundaries)) or boundaries[0] < 1:
        raise ValueError(f"`bucket_boundaries` must ascend, from 1 at least. Received: {tuple(boundaries)}.")
    sources = tokenize([source for source, _ in pairs], source_tokenizer)
    targets = tokenize([target for _, target in pairs], target_tokenizer)
    lengths = pair_lengths(sources, targets)
    fits = np.flatnonzero(lengths <= boundaries[-1])
    if len(fits) == 0:
        raise ValueError(f"No pair is as short as the last of `bucket_boundaries`. Received: {tuple(boundaries)}.")
    sources, targets = [sources[i] for i in fits], [targets[i] for i in fits]
    longest_target = max(len(target) for target in targets) + 1
    buckets = tuple(
        Bucket(bound, min(bound, longest_target), max(8, batch_tokens // bound // 8 * 8)) for bound in boundaries
    )
    bucket = np.searchsorted(np.asarray(boundaries), lengths[fits])
    return TokenizedPairs(sources, targets, bucket, buckets, kept=fits, left_out=len(pairs) - len(fits))


def sample_pairs(
    data: TokenizedPairs,
    pairs: Sequence[Pair],
    source_tokenizer: SentencePieceTokenizer,
    target_tokenizer: SentencePieceTokenizer,
    alpha: float,
    seed: int,
) -> Callable[[int], TokenizedPairs]:
    """Subword regularization: a function of the epoch that gives `data` in pieces drawn for that epoch.

    Args:
        data: `pairs` in their most probable pieces.
        alpha, seed: see `SentencePieceTokenizer.sample`; the pieces depend on the seed and the epoch alone.
    """
    kept = [pairs[i] for i in data.kept]

    def of_epoch(epoch: int) -> TokenizedPairs:
        source_seed, target_seed = (int(word) for word in np.random.SeedSequence((seed, epoch)).generate_state(2))
        return data.cut_otherwise(
            source_tokenizer.sample([source for source, _ in kept], alpha, source_seed),
            target_tokenizer.sample([target for _, target in kept], alpha, target_seed),
        )

    return of_epoch


def batch_plan(data: TokenizedPairs, rng: np.random.Generator | None) -> list[tuple[int, np.ndarray]]:
    """The batches of one pass: bucket and rows of each; shuffled, or in order when `rng` is None."""
    plan = []
    for index, bucket in enumerate(data.buckets):
        rows = np.flatnonzero(data.bucket == index)
        if rng is not None:
            rows = rng.permutation(rows)
        plan += [(index, rows[i : i + bucket.batch_size]) for i in range(0, len(rows), bucket.batch_size)]
    if rng is not None:
        rng.shuffle(plan)
    return plan


def fill(data: TokenizedPairs, index: int, rows: np.ndarray, start_id: int, end_id: int) -> tuple[Any, Any, Any]:
    """One batch of static shape for teacher forcing: inputs, targets, and the weight 1 of each step that counts."""
    bucket = data.buckets[index]
    source = np.zeros((bucket.batch_size, bucket.source_length), "int32")
    read = np.zeros((bucket.batch_size, bucket.target_length), "int32")
    written = np.zeros_like(read)
    for row, i in enumerate(rows):
        ids, size = data.targets[i], len(data.targets[i])
        source[row, : len(data.sources[i])] = data.sources[i]
        read[row, 0], read[row, 1 : size + 1] = start_id, ids[: bucket.target_length - 1]
        written[row, :size], written[row, size] = ids, end_id
    return {"source": source, "target": read}, written, (written != 0).astype("float32")


def batches(
    data: TokenizedPairs,
    start_id: int,
    end_id: int,
    seed: int | None = None,
    first_epoch: int = 0,
    epochs: int = 1,
    sample: Callable[[int], TokenizedPairs] | None = None,
) -> tf.data.Dataset:
    """A data set of batches for `model.fit`.

    Args:
        seed: int to shuffle by: the order of an epoch depends on the seed and the epoch alone, so a resumed run goes on
            as an unbroken one; None keeps the order.
        first_epoch, epochs: which passes it holds: from `first_epoch` up to `epochs`.
        sample: gives the pairs as an epoch shall read them, of `sample_pairs`; None reads `data` in each. An epoch has
            `data.steps` batches all the same: where other pieces make a batch more, it is left out, and where they make
            one less, another is read twice.
    """
    import tensorflow as tf

    def generate() -> Iterator[Any]:
        for epoch in range(first_epoch, epochs):
            rng = None if seed is None else np.random.default_rng((seed, epoch))
            read = data if sample is None else sample(epoch)
            for index, rows in islice(cycle(batch_plan(read, rng)), data.steps):
                yield fill(read, index, rows, start_id, end_id)

    ids = tf.TensorSpec((None, None), tf.int32)
    signature = ({"source": ids, "target": ids}, ids, tf.TensorSpec((None, None), tf.float32))
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    known = tf.data.experimental.assert_cardinality(data.steps * (epochs - first_epoch))
    return dataset.apply(known).prefetch(tf.data.AUTOTUNE)
