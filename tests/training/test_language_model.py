"""The recipe language_model: what it counts, what it writes, and how its run goes on."""

from __future__ import annotations

import json
import math
import shutil

import keras
import numpy as np
import pytest

from keras_seqattn.cli import main
from keras_seqattn.text import CharacterTokenizer, load_tokenizer
from keras_seqattn.training.callbacks import BitsPerToken, Gates, ResetStates, WrittenText
from keras_seqattn.training.recurrent_language_model import (
    CELLS,
    Config,
    Reader,
    a_sentence,
    ids_of,
    language_model,
    visible,
)
from keras_seqattn.training.run_folder import RunFolder
from tests.training.events import read_events
from tests.training.runs import train_language_model, write_text

pytestmark = pytest.mark.tensorflow_only

TOKENIZER = CharacterTokenizer("abcd \n")
TEXT = "abcad bdc\nacbd abdd cab\nddab " * 30


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def reader(**settings):
    """A reader with weights far from zero, and what it was told."""
    keras.utils.set_random_seed(0)
    config = Config(units=7, embedding_dim=5, **settings)
    found = Reader(config, TOKENIZER)
    rng = np.random.default_rng(0)
    for variable in found.model.trainable_variables:
        variable.assign(0.7 * rng.normal(size=variable.shape))
    return found, config


def logits_of(found, text):
    """The logits (N, C) of a whole text, read in one call from zero states by a model without any carried over."""
    layers = found.model.layers
    x = layers[1](ids_of(text, TOKENIZER)[None])
    for layer in layers[2:-1]:
        if isinstance(layer, keras.layers.Dropout):
            continue
        layer.reset_state()
        x, _ = layer(x)
    return layers[-1](x).numpy()[0]


@pytest.mark.parametrize("cell", CELLS)
def test_bits_are_those_of_the_whole_text_read_at_once(cell):
    found, _ = reader(cell=cell, num_layers=2)
    logits, ids = logits_of(found, TEXT).astype("float64"), ids_of(TEXT, TOKENIZER)
    assert len(ids) > 512  # more than a window
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = -np.mean(log_probs[np.arange(len(ids) - 1), ids[1:]]) / math.log(2)
    assert found.bits_per_character(TEXT) == pytest.approx(wanted, rel=1e-5)
    assert found.bits_per_character(TEXT) == found.bits_per_character(TEXT)  # nothing is carried to the next text


def test_a_model_that_knows_nothing_needs_the_logarithm_of_its_vocabulary():
    found, _ = reader()
    for variable in found.model.trainable_variables:
        variable.assign(np.zeros(variable.shape))
    assert found.bits_per_character(TEXT) == pytest.approx(math.log2(TOKENIZER.vocabulary_size), rel=1e-6)


def test_without_temperature_it_writes_what_is_likeliest_after_all_it_has_written():
    found, config = reader(temperature=0.0, written_length=23)
    written = found.write(config, epoch=0)
    logits = logits_of(found, "\n" + written)[:-1]
    logits[:, :4] = -np.inf
    assert len(written) == 23
    assert written == TOKENIZER.detokenize([logits.argmax(-1)]).numpy()[0].decode()


def test_what_it_writes_depends_on_the_seed_and_the_epoch_alone():
    found, config = reader(written_length=40)
    first = found.write(config, epoch=0)
    assert found.write(config, epoch=0) == first
    assert found.write(config, epoch=1) != first
    assert found.write(Config(written_length=40, seed=1), epoch=0) != first
    assert set(first) <= set("abcd \n")
    assert found.write(Config(written_length=0), epoch=0) == ""


@pytest.mark.parametrize("cell", CELLS)
def test_a_reader_takes_the_weights_of_a_model_of_another_batch_size(cell):
    found, config = reader(cell=cell)
    model = language_model(TOKENIZER.vocabulary_size, config, batch_size=3)
    ids = ids_of(TEXT[:11], TOKENIZER)
    assert found.take(model) is found
    np.testing.assert_allclose(
        model(np.tile(ids, (3, 1))).numpy()[1], logits_of(found, TEXT[:11]), rtol=1e-5, atol=1e-6
    )


def test_the_trace_has_a_step_a_character_and_names_the_layer_where_there_are_several():
    one, two = (reader(num_layers=n)[0].trace("ab d") for n in (1, 2))
    assert {name: tuple(value.shape) for name, value in one.items()} == dict.fromkeys(
        ("candidate", "reset_gate", "update_gate"), (1, 4, 7)
    )
    assert set(two) == {f"{layer}/{name}" for layer in (0, 1) for name in one}
    assert visible("a \n", TOKENIZER) == ["a", "▁", "\\n"]


def test_the_sentence_of_the_picture_is_the_first_long_line_that_begins_in_the_text():
    text = "the end of a line that began before\nshort\na line of twenty letters\nanother line of twenty"
    assert a_sentence(text) == "a line of twenty letters"
    assert a_sentence("\n" + "x" * 100) == "x" * 60
    assert a_sentence("no line at all") == "no line at all"


def small_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    return model


def test_the_callbacks_write_bits_text_and_gates_of_any_model(tmp_path, rng):
    trace = {"update_gate": rng.uniform(size=(1, 3, 5))}
    callbacks = [
        BitsPerToken(tmp_path, "word"),
        WrittenText(lambda epoch: f"text {epoch}\n  | more", tmp_path),
        Gates(lambda: trace, ["a", "b", "c"], tmp_path),
    ]
    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    history = small_model().fit(x, y, validation_data=(x, y), epochs=2, verbose=0, callbacks=callbacks).history
    events = read_events(tmp_path)
    for name, part in (("loss", "train"), ("val_loss", "validation")):
        bits, perplexity = events.scalars[f"bits_per_word/{part}"], events.scalars[f"perplexity/{part}"]
        assert [step for step, _ in bits] == [1, 2]
        np.testing.assert_allclose([value for _, value in bits], np.array(history[name]) / np.log(2), rtol=1e-5)
        np.testing.assert_allclose([v for _, v in perplexity], [2**value for _, value in bits], rtol=1e-5)
    assert events.texts["written"] == [(step, f"    text {step - 1}\n      | more") for step in (1, 2)]
    assert [step for step, _ in events.images["gates"]] == [1, 2]
    assert all(png.startswith(b"\x89PNG") for _, png in events.images["gates"])


# ---- runs ----


@pytest.mark.slow
def test_a_finished_run_has_its_files_figures_and_curves(language_model_run):
    assert sorted(path.name for path in language_model_run.iterdir()) == [
        "checkpoints",
        "config.json",
        "metrics.json",
        "model.keras",
        "pictures",
        "tensorboard",
        "tokenizer.json",
    ]
    figures = read(language_model_run / "metrics.json")
    assert all(isinstance(value, int | float) for value in figures.values())
    assert figures["test_perplexity"] == pytest.approx(2 ** figures["test_bits_per_character"], rel=1e-3)
    assert figures["test_bits_per_character"] < math.log2(22)  # more than the size of its alphabet
    assert (language_model_run / "pictures" / "gates.png").read_bytes().startswith(b"\x89PNG")
    shown = read_events(language_model_run / "tensorboard")
    assert [step for step, _ in shown.scalars["bits_per_character/validation"]] == [1, 2]
    assert shown.scalars["bits_per_character/validation"][-1][1] == pytest.approx(
        figures["val_loss"] / math.log(2), abs=1e-4
    )
    assert [step for step, _ in shown.images["gates"]] == [1, 2]
    assert len(shown.texts["written"]) == 2


@pytest.mark.slow
def test_the_saved_model_begins_with_zero_states_and_reads_as_the_figures_say(language_model_run):
    model = keras.saving.load_model(language_model_run / "model.keras")
    assert not any(v.numpy().any() for v in model.non_trainable_variables if "state_" in v.name and v.ndim == 2)
    config, tokenizer = (
        Config(units=11, embedding_dim=5, num_layers=2),
        load_tokenizer(RunFolder(language_model_run).tokenizer),
    )
    text = (language_model_run.parent / "language_model_text.txt").read_text(encoding="utf-8")
    found = Reader(config, tokenizer).take(model).bits_per_character(text[len(text) * 95 // 100 :])
    assert found == pytest.approx(read(language_model_run / "metrics.json")["test_bits_per_character"], abs=1e-3)


@pytest.mark.slow
def test_another_text_is_refused_when_a_run_is_evaluated(language_model_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(language_model_run, run)
    settings = read(run / "config.json")
    text = write_text(tmp_path / "text.txt")
    text.write_text(text.read_text(encoding="utf-8") + "more", encoding="utf-8")
    (run / "config.json").write_text(json.dumps({**settings, "data": str(text)}))
    assert main(["evaluate", str(run)]) == 1
    assert "on the end of the text that it was trained on" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_weights_of_an_unbroken_one(language_model_run, tmp_path, monkeypatch):
    run, data = tmp_path / "run", write_text(tmp_path / "text.txt")
    begin = ResetStates.on_epoch_begin

    def stopped(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt
        begin(self, epoch, logs)

    monkeypatch.setattr(ResetStates, "on_epoch_begin", stopped)
    assert main(train_language_model(run, data)) == 130
    monkeypatch.undo()
    settings = read(run / "config.json")
    assert settings["data"] == str(data)
    assert main([*train_language_model(run, data), "--resume"]) == 0
    found, unbroken = read(run / "metrics.json"), read(language_model_run / "metrics.json")
    assert found["resumed_after_epochs"] == 1
    same = set(unbroken) - {"train_seconds"}
    assert {name: found[name] for name in same} == {name: unbroken[name] for name in same}
    for name in ("model.keras", "checkpoints/epoch-0002.keras"):
        resumed, whole = (keras.saving.load_model(folder / name) for folder in (run, language_model_run))
        pairs = zip(
            [*resumed.weights, *resumed.optimizer.variables], [*whole.weights, *whole.optimizer.variables], strict=True
        )
        for one, other in pairs:
            np.testing.assert_array_equal(one, other, err_msg=one.path)


def test_a_text_too_short_for_its_windows_is_told_before_anything_is_written(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("a b c d\n" * 100, encoding="utf-8")
    assert main(train_language_model(tmp_path / "run", tmp_path / "text.txt")) == 1
    error = capsys.readouterr().err
    assert "must fill a window in each row, 91 steps" in error
    assert "take a smaller `window` or `batch_size`" in error
    assert not (tmp_path / "run").exists()
