"""The recipe masked_language_model: what is masked, what its figures are, and how its run goes on."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_seqattn.cli import main
from keras_seqattn.text import WordPieceTokenizer, load_tokenizer
from keras_seqattn.training.data import load_text
from keras_seqattn.training.masking import Masking, counts_of, pack
from keras_seqattn.training.recipes.masked_language_model import Config, Windows, in_batches, masked_anew, measure
from keras_seqattn.training.run_folder import RunFolder
from tests.training.events import read_events
from tests.training.runs import check_resumed_equals_unbroken, options

pytestmark = pytest.mark.tensorflow_only

WORDS = [f"w{chr(97 + n)}" for n in range(20)]
TOKENIZER = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])
PAD, UNK, CLS, SEP, MASK = range(5)
SETTINGS = {
    "--model-dim": "8",
    "--num-layers": "1",
    "--num-heads": "2",
    "--window": "13",
    "--batch-size": "7",
    "--vocabulary-size": "60",
    "--epochs": "2",
    "--xla": "off",
}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def some_windows(rng, rows, window):
    """Windows as `pack` makes them, the last ones shorter, with unknown words among the others."""
    windows = np.zeros((rows, window), "int32")
    for row in windows:
        length = rng.integers(1, window - 1)
        row[: length + 2] = [CLS, *rng.choice([UNK, *range(5, 25)], length), SEP]
    return windows


# ---- packing and masking ----


@pytest.mark.parametrize("lengths", [(), (1,), (5,), (6, 5), (3, 0, 17, 2)])
def test_packing_keeps_each_token_once_and_in_order(lengths):
    ids = np.arange(100, 100 + sum(lengths), dtype="int32")
    windows = pack(np.split(ids, np.cumsum(lengths)[:-1]) if lengths else [], 7, TOKENIZER)
    assert windows.shape == (-(-len(ids) // 5), 7)
    np.testing.assert_array_equal(windows[windows >= 100], ids)
    for row in windows:
        tokens = row[row >= 100]
        assert row.tolist() == [CLS, *tokens, SEP] + [PAD] * (5 - len(tokens))
    assert (windows[:-1] >= 100).sum() == 5 * max(len(windows) - 1, 0)


@pytest.mark.parametrize("share", [0.15, 0.5, 1.0])
def test_so_many_words_are_masked_and_never_a_special_token(rng, share):
    windows = some_windows(rng, 211, 31)
    masked = Masking.of(TOKENIZER, 31, share)(windows, rng)
    words = (windows >= 5).sum(axis=1)
    for row, count in enumerate(words):
        steps = masked.steps[row][masked.weights[row] == 1]
        assert len(steps) == len(set(steps)) == (min(count, max(1, math.floor(count * share + 0.5))))
        assert (windows[row, steps] >= 5).all()
        np.testing.assert_array_equal(masked.targets[row, : len(steps)], windows[row, steps])
        elsewhere = np.setdiff1d(np.arange(31), steps)
        np.testing.assert_array_equal(masked.ids[row, elsewhere], windows[row, elsewhere])
    for values in (masked.steps, masked.targets):
        assert not values[masked.weights == 0].any()


def test_a_full_window_fills_every_slot_and_shares_are_those_of_the_paper(rng):
    windows = np.full((3001, 22), CLS, "int32")
    windows[:, 1:-1], windows[:, -1] = rng.integers(5, 25, (3001, 20)), SEP
    masked = Masking.of(TOKENIZER, 22)(windows, rng)
    assert masked.steps.shape == (3001, 3)  # 15 % of 20
    assert masked.weights.all()
    read = np.take_along_axis(masked.ids, masked.steps, axis=1)
    total = read.size

    def about(count, share):
        return abs(count - total * share) < 5 * math.sqrt(total * share * (1 - share))

    assert about((read == MASK).sum(), 0.8)
    assert about((read == masked.targets).sum(), 0.1 + 0.1 / 20)  # another word may be the same one
    others = read[(read != MASK) & (read != masked.targets)]
    assert about(len(others), 0.1 * 19 / 20)
    assert set(others) == set(range(5, 25))
    # Each step of a window is chosen as often as any other.
    per_step = np.bincount(masked.steps.ravel(), minlength=22)
    assert per_step[0] == per_step[21] == 0
    assert (abs(per_step[1:21] - total / 20) < 5 * math.sqrt(total / 20)).all()


def test_what_is_masked_depends_on_the_seed_alone(rng):
    windows, masking = some_windows(rng, 17, 19), Masking.of(TOKENIZER, 19)
    before = windows.copy()
    one, again, other = (masking(windows, np.random.default_rng(seed)) for seed in (3, 3, 4))
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one.steps != other.steps).any()
    np.testing.assert_array_equal(windows, before)


def test_a_window_without_words_weighs_nothing():
    windows = np.array([[CLS, UNK, SEP, PAD, PAD], [PAD] * 5], "int32")
    masked = Masking.of(TOKENIZER, 5)(windows, np.random.default_rng(0))
    np.testing.assert_array_equal(masked.ids, windows)
    assert not masked.weights.any()
    assert counts_of(np.array([0, 1, 3, 10, 100]), 0.15).tolist() == [0, 1, 1, 2, 15]


def test_what_cannot_mask_is_refused():
    for share in (0.0, 1.1):
        with pytest.raises(ValueError, match="above 0, and 1 at most"):
            Masking.of(TOKENIZER, 5, share)
    with pytest.raises(ValueError, match="must have one. Received: mask_token=None"):
        Masking.of(WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"], mask_token=None), 5)
    with pytest.raises(ValueError, match="a token that is not special"):
        Masking.of(WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]), 5)


# ---- batches and figures ----


def write_pairs_of_words(path: Path) -> Path:
    """Lines in which each word is followed by itself, so that a masked word can be told from its neighbour alone."""
    rng = random.Random(0)
    lines = (" ".join(f"{word} {word}" for word in rng.choices(WORDS, k=6)) + "\n" for _ in range(700))
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def windows(tmp_path):
    parts = load_text(str(write_pairs_of_words(tmp_path / "text.txt")))
    return Windows.of(parts, TOKENIZER, Config(window=13))


def batches_of(dataset):
    return [[one.numpy() for one in (x["ids"], x["masked_steps"], y, w)] for x, y, w in dataset]


def test_an_epoch_depends_on_the_seed_and_the_epoch_alone_and_masks_anew(windows):
    config = Config(window=13, batch_size=32, epochs=3, seed=5)
    whole, rest = (batches_of(masked_anew(windows, config, epoch)) for epoch in (0, 1))
    steps = -(-len(windows.train) // 32)
    assert (len(whole), len(rest)) == (3 * steps, 2 * steps)
    for one, other in zip(whole[steps:], rest, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    texts = []
    for epoch in range(3):
        ids, places, targets, weights = (
            np.concatenate(column) for column in zip(*whole[epoch * steps : (epoch + 1) * steps], strict=True)
        )
        row, slot = np.nonzero(weights)
        ids[row, places[row, slot]] = targets[row, slot]  # as they were
        texts.append(ids[ids[:, 0] != PAD])
    for ids in texts:  # each window once
        assert sorted(map(tuple, ids)) == sorted(map(tuple, windows.train))
    assert (texts[0] != texts[1]).any()


def test_the_figures_ask_for_the_same_words_each_time_whatever_the_batches(windows):
    first = windows.masked("test")
    for a, b in zip(first, windows.masked("test"), strict=True):
        np.testing.assert_array_equal(a, b)
    batches = batches_of(in_batches(first, 7))
    assert {tuple(ids.shape) for ids, *_ in batches} == {(7, 13)}
    for column, wanted in zip(zip(*batches, strict=True), first, strict=True):
        np.testing.assert_array_equal(np.concatenate(column)[: len(wanted)], wanted)
        assert not np.concatenate(column)[len(wanted) :].any()

    keras.utils.set_random_seed(0)
    model = Config(model_dim=8, num_heads=2, num_layers=1).build(vocabulary_size=25, max_length=13, head="masked_words")
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(0.5 * rng.normal(size=variable.shape))
    found, again = (measure(model, windows, Config(window=13, batch_size=size)) for size in (7, 100))
    assert found == pytest.approx(again, abs=2e-4)
    logits = model({"ids": first.ids}).numpy().astype("float64")  # at all steps
    row, slot = np.nonzero(first.weights)
    logits, targets = logits[row, first.steps[row, slot]], first.targets[row, slot]
    nats = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(logits)), targets]
    assert found["test_masked_words"] == len(row)
    assert found["test_nats_per_masked_word"] == pytest.approx(nats.mean(), abs=1e-3)
    assert found["test_perplexity"] == pytest.approx(math.exp(nats.mean()), rel=1e-3)
    assert found["test_masked_accuracy"] == pytest.approx((logits.argmax(-1) == targets).mean(), abs=1e-5)


def test_a_model_that_knows_nothing_needs_the_logarithm_of_its_vocabulary(windows):
    model = Config(model_dim=8, num_heads=2, num_layers=1).build(vocabulary_size=25, max_length=13, head="masked_words")
    for variable in model.trainable_variables:
        variable.assign(np.zeros(variable.shape))
    assert measure(model, windows, Config(window=13))["validation_perplexity"] == pytest.approx(25, rel=1e-3)


# ---- runs ----


def train(run, data, **changes):
    changes = {"--" + name.replace("_", "-"): value for name, value in changes.items()}
    words = options({**SETTINGS, **changes})
    return ["train", "masked_language_model", "--run-dir", str(run), "--data", str(data), *words]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    base = tmp_path_factory.mktemp("masked")
    assert main(train(base / "run", write_pairs_of_words(base / "text.txt"))) == 0
    return base / "run"


@pytest.mark.slow
def test_a_finished_run_has_its_files_figures_and_curves(finished, capsys):
    names = ["checkpoints", "config.json", "metrics.json", "model.keras", "tensorboard", "tokenizer.json"]
    assert sorted(path.name for path in finished.iterdir()) == names
    figures = read(finished / "metrics.json")
    assert all(isinstance(value, int | float) for value in figures.values())
    assert figures["test_perplexity"] == pytest.approx(math.exp(figures["test_nats_per_masked_word"]), rel=1e-3)
    assert {"loss", "val_loss", "val_masked_accuracy", "train_seconds"} <= set(figures)
    bits = read_events(finished / "tensorboard").scalars["bits_per_masked_word/validation"]
    assert bits[-1] == (2, pytest.approx(figures["val_loss"] / math.log(2), abs=1e-4))
    assert main(["evaluate", str(finished)]) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert {name: float(value) for name, value in printed.items()} == {name: figures[name] for name in printed}
    assert isinstance(load_tokenizer(RunFolder(finished).tokenizer), WordPieceTokenizer)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_weights_of_an_unbroken_one(finished, tmp_path, monkeypatch):
    arguments = train(tmp_path / "run", finished.parent / "text.txt")
    check_resumed_equals_unbroken(arguments, tmp_path / "run", finished, monkeypatch)


@pytest.mark.slow
def test_it_learns_to_look_at_the_words_beside(tmp_path):
    rng, data = random.Random(0), tmp_path / "text.txt"  # a window says one word over and over
    data.write_text("".join(f"{' '.join([rng.choice(WORDS)] * 11)}\n" for _ in range(700)), encoding="utf-8")
    changes = {"model_dim": "32", "epochs": "6", "batch_size": "16", "learning_rate": "5e-3", "dropout": "0.0"}
    assert main(train(tmp_path / "run", data, attention_dropout="0.0", warmup_steps="20", **changes)) == 0
    # One that sees nothing is right in 1 of 20, one that sees the masked step alone in 1 of 7.
    assert read(tmp_path / "run" / "metrics.json")["test_masked_accuracy"] > 0.8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masked_share": "0"}, "above 0, and 1 at most"),
        ({"model_dim": "9"}, "`num_heads` must divide `model_dim`"),
        ({"vocabulary_size": "9"}, "`vocabulary_size` must have room"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_written(tmp_path, capsys, changes, message):
    data = write_pairs_of_words(tmp_path / "text.txt")
    assert main(train(tmp_path / "run", data, **changes)) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_window_has_room_for_a_word():
    with pytest.raises(ValueError, match="`window` must be at least 3"):
        Config(window=2)


def test_another_text_is_refused_when_a_run_is_evaluated(tmp_path):
    run = RunFolder(tmp_path)
    run.write_json("config.json", {"data_fingerprint": "abc"})
    run.check_data("abc")
    with pytest.raises(ValueError, match="on the test part of the data that it was trained on"):
        run.check_data("abd")
