"""Batches of few shapes: which, how filled, in which order, and that a compiled step is compiled once for each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from keras_seqattn.text import CharacterTokenizer, SentencePieceTokenizer
from keras_seqattn.training.bucketing import Bucket, batches, sample_pairs, tokenize, tokenize_pairs

pytestmark = pytest.mark.tensorflow_only

START, END = CharacterTokenizer.start_id, CharacterTokenizer.end_id
TOKENIZER = CharacterTokenizer("abcdefgh")
BOUNDARIES = (3, 7, 13)


@pytest.fixture
def pairs(rng):
    """97 different pairs of 1 to 12 characters, and three with a source of 14."""

    def text(length):
        return "".join(rng.choice(list("abcdefgh"), length))

    found = {(text(rng.integers(1, 13)), text(rng.integers(1, 13))) for _ in range(97)}
    assert len(found) == 97
    return [*sorted(found), *((text(14), text(2)) for _ in range(3))]


@pytest.fixture
def data(pairs):
    return tokenize_pairs(pairs, TOKENIZER, TOKENIZER, BOUNDARIES, batch_tokens=110)


def read(data, **options):
    """The batches as arrays: source, target read, target written, weight."""
    return [
        (inputs["source"].numpy(), inputs["target"].numpy(), written.numpy(), weight.numpy())
        for inputs, written, weight in batches(data, START, END, **options)
    ]


def pairs_in(batch):
    """The pairs that the rows of a batch spell, empty rows left out."""
    source, _, written, weight = batch
    texts = [[text.decode() for text in TOKENIZER.detokenize(ids).numpy()] for ids in (source, written)]
    return [pair for pair, counts in zip(zip(*texts, strict=True), weight.any(axis=1), strict=True) if counts]


def same(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a, b) for batch, twin in zip(one, other, strict=True) for a, b in zip(batch, twin, strict=True)
    )


def test_a_bucket_has_one_shape_in_every_batch_of_every_epoch(data):
    found = {(source.shape, target.shape) for source, target, _, _ in read(data, seed=0, epochs=5)}
    assert data.buckets == (Bucket(3, 3, 32), Bucket(7, 7, 8), Bucket(13, 13, 8))  # about 110 tokens, in eights
    assert found == {((b.batch_size, b.source_length), (b.batch_size, b.target_length)) for b in data.buckets}


def test_targets_are_padded_no_further_than_the_longest_of_all():
    data = tokenize_pairs([("abcdefgh", "ab"), ("a", "b")], TOKENIZER, TOKENIZER, (2, 8, 20), batch_tokens=8)
    assert [(bucket.source_length, bucket.target_length) for bucket in data.buckets] == [(2, 2), (8, 3), (20, 3)]


def test_every_pair_comes_exactly_once_an_epoch(data, pairs):
    short = Counter(pair for pair in pairs if len(pair[0]) <= 13)
    for epoch in range(3):
        epoch_batches = read(data, seed=5, first_epoch=epoch, epochs=epoch + 1)
        assert len(epoch_batches) == data.steps
        assert Counter(pair for batch in epoch_batches for pair in pairs_in(batch)) == short


def test_longer_pairs_are_left_out_and_counted(data, pairs):
    assert data.left_out == 3
    assert len(data.sources) == len(data.targets) == len(pairs) - 3


def test_the_end_token_counts_in_the_length_of_a_target():
    data = tokenize_pairs([("a", "ab"), ("a", "abc"), ("abc", "a")], TOKENIZER, TOKENIZER, (3, 4), batch_tokens=8)
    assert data.bucket.tolist() == [0, 1, 0]
    data = tokenize_pairs([("a", "ab"), ("a", "abc"), ("abcd", "a")], TOKENIZER, TOKENIZER, (3,), batch_tokens=8)
    assert (data.left_out, len(data.targets)) == (2, 1)


def test_a_partial_batch_is_filled_up_with_empty_rows_that_weigh_nothing(data):
    partial = 0
    for source, target, written, weight in read(data):
        empty = ~weight.any(axis=1)
        partial += bool(empty.any())
        for array in (source, target, written):
            assert not array[empty].any()
            assert array[~empty].any(axis=1).all()
    counts = np.bincount(data.bucket)
    assert partial == sum(count % bucket.batch_size > 0 for count, bucket in zip(counts, data.buckets, strict=True)) > 0


def test_a_row_reads_the_start_token_and_writes_the_end_token():
    data = tokenize_pairs([("ab", "ba"), ("abc", "")], TOKENIZER, TOKENIZER, (4,), batch_tokens=1)
    ((source, target, written, weight),) = read(data)
    a, b, c = 4, 5, 6
    assert source[:2].tolist() == [[a, b, 0, 0], [a, b, c, 0]]
    assert target[:2].tolist() == [[START, b, a], [START, 0, 0]]
    assert written[:2].tolist() == [[b, a, END], [END, 0, 0]]
    assert weight[:2].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert len(source) == 8
    assert not weight[2:].any()


def test_the_order_depends_on_the_seed_and_the_epoch_alone(data):
    first, second = (read(data, seed=3, first_epoch=epoch, epochs=epoch + 1) for epoch in (0, 1))
    assert same(read(data, seed=3), first)  # again the same
    assert same(read(data, seed=3, epochs=2), first + second)  # a run that goes on meets what an unbroken one meets
    assert not same(first, second)
    assert not same(first, read(data, seed=4))
    # Buckets are mixed, and pairs change their batch.
    shapes = [source.shape for source, *_ in first]
    assert shapes != sorted(shapes)
    assert {frozenset(pairs_in(batch)) for batch in first} != {frozenset(pairs_in(batch)) for batch in second}


def test_without_a_seed_the_order_is_kept(data):
    sources = [pair[0] for batch in read(data) for pair in pairs_in(batch)]
    wanted = [
        TOKENIZER.detokenize([data.sources[i]]).numpy()[0].decode() for i in np.argsort(data.bucket, kind="stable")
    ]
    assert sources == wanted


@pytest.fixture(scope="module")
def sampled():
    """Pairs, as SentencePiece cuts them usually, and how an epoch reads them."""
    words = ["to", "be", "or", "not", "that", "is", "the", "question", "whether", "nobler", "in", "mind", "arrows"]
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, rng.integers(1, 9))) for _ in range(80)]
    pairs = list(zip(texts[:40], texts[40:], strict=True))
    tokenizer = SentencePieceTokenizer.learn(texts, vocabulary_size=320)
    data = tokenize_pairs(pairs, tokenizer, tokenizer, (4, 6, 8), batch_tokens=80)
    assert data.left_out > 0
    return tokenizer, pairs, data, sample_pairs(data, pairs, tokenizer, tokenizer, alpha=0.1, seed=5)


def test_drawn_pieces_spell_the_same_pairs_within_the_same_buckets(sampled):
    tokenizer, pairs, data, sample = sampled
    drawn = sample(0)
    assert drawn.buckets == data.buckets
    for i, kept in enumerate(data.kept):
        both = drawn.sources[i], drawn.targets[i]
        assert tuple(tokenizer.detokenize([ids]).numpy()[0].decode() for ids in both) == pairs[kept]
        bucket = drawn.buckets[drawn.bucket[i]]
        assert len(drawn.sources[i]) <= bucket.source_length and len(drawn.targets[i]) < bucket.target_length
    assert any(len(a) > len(b) for a, b in zip(drawn.sources, data.sources, strict=True))


def test_each_epoch_draws_anew_and_a_resumed_run_draws_alike(sampled):
    _, _, data, sample = sampled
    unbroken = read(data, seed=5, epochs=3, sample=sample)
    resumed = read(data, seed=5, first_epoch=1, epochs=3, sample=sample)
    assert len(unbroken) == 3 * data.steps
    assert same(unbroken[data.steps :], resumed)
    tokens = [sum(int(weight.sum()) for *_, weight in unbroken[i * data.steps :][: data.steps]) for i in range(3)]
    assert len(set(tokens)) > 1


def test_texts_are_tokenized_in_chunks_as_at_once():
    texts = ["abc", "", "h", "aab", ""]
    for chunk in (1, 2, 5, 100):
        assert [row.tolist() for row in tokenize(texts, TOKENIZER, chunk)] == TOKENIZER.tokenize(texts).to_list()


@pytest.mark.parametrize("boundaries", [(), (4, 4), (5, 3), (0, 4)])
def test_boundaries_that_do_not_ascend_are_refused(boundaries):
    with pytest.raises(ValueError, match=r"`bucket_boundaries` must ascend, from 1 at least\. Received: \("):
        tokenize_pairs([("a", "b")], TOKENIZER, TOKENIZER, boundaries, batch_tokens=8)


def test_pairs_that_are_all_too_long_are_refused():
    with pytest.raises(ValueError, match=r"No pair is as short as the last of `bucket_boundaries`.*\(2,\)"):
        tokenize_pairs([("abc", "b")], TOKENIZER, TOKENIZER, (2,), batch_tokens=8)


COMPILED = """
import keras
import numpy as np
from keras_seqattn.models import Seq2Seq
from keras_seqattn.text import CharacterTokenizer
from keras_seqattn.training.bucketing import batches, tokenize_pairs
from keras_seqattn.training.fit import FitSettings, compile_model

tokenizer, rng = CharacterTokenizer("abc"), np.random.default_rng(0)
pairs = [("".join(rng.choice(list("abc"), rng.integers(1, 9))),) * 2 for _ in range(60)]
data = tokenize_pairs(pairs, tokenizer, tokenizer, (4, 9), batch_tokens=36)
traces, late = [], []


class Counted(Seq2Seq):
    def train_step(self, data):
        traces.append(1)
        return super().train_step(data)


model = Counted(7, 7, units=2, embedding_dim=2, cell="elman", attention="dot", input_feeding=False)
compile_model(model, FitSettings(xla="on"), steps=100)
note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: late.append(len(traces)))
model.fit(
    batches(data, 1, 2, seed=0, epochs=4),
    steps_per_epoch=data.steps,
    epochs=4,
    shuffle=False,
    verbose=0,
    callbacks=[note],
)
assert model.optimizer.iterations == 4 * data.steps and data.steps > 6
print(f"buckets {len(data.buckets)}, traces after the first step {len(traces) - late[0]}")
"""


@pytest.mark.slow
def test_a_step_is_traced_at_the_first_call_alone_and_compiled_once_a_bucket(tmp_path):
    """XLA, asked to write down each program that it compiles, writes one training step a bucket in four epochs."""
    written = f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=.*one_step_on_data.*"
    done = subprocess.run(
        [sys.executable, "-c", COMPILED],
        env={**os.environ, "XLA_FLAGS": written},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "buckets 2, traces after the first step 0"
    assert len(list(tmp_path.glob("*one_step_on_data*.before_optimizations.txt"))) == 2
