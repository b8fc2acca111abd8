"""Tiny runs as the command line leaves them: their files, figures and curves, and how a run goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_seqattn.cli import main
from keras_seqattn.decoding import Greedy
from keras_seqattn.training import text_to_text
from keras_seqattn.training.callbacks.alignments import draw
from keras_seqattn.training.callbacks.summaries import as_png
from keras_seqattn.training.data.dates import LOCALES
from keras_seqattn.training.run_folder import RunFolder
from tests.training.events import read_events
from tests.training.runs import train_dates, train_translate, write_pairs

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow_only]

ROOT = Path(__file__).parents[2]


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_finished_run_has_all_its_files_and_no_others(dates_run):
    assert sorted(path.name for path in dates_run.iterdir()) == [
        "checkpoints",
        "config.json",
        "lengths.json",
        "metrics.json",
        "model.keras",
        "samples.json",
        "source_tokenizer.json",
        "target_tokenizer.json",
        "tensorboard",
    ]
    assert [path.name for path in (dates_run / "checkpoints").iterdir()] == ["epoch-0002.keras"]


def test_the_configuration_tells_recipe_settings_and_data(dates_run):
    config = read(dates_run / "config.json")
    assert config["recipe"] == "dates"
    assert (config["units"], config["dropout"], config["bucket_boundaries"]) == (12, 0.1, [16, 24, 40])
    assert len(config["data_fingerprint"]) == 64
    assert not {"run_dir", "resume"} & config.keys()


def test_the_figures_are_one_flat_object(dates_run):
    figures = read(dates_run / "metrics.json")
    assert all(isinstance(value, int | float | str) for value in figures.values())
    assert figures["test_pairs"] == 44
    assert 0 <= figures["exact_match"] <= 1
    assert figures["train_seconds"] > 0
    assert figures["epochs"] == 2
    assert {f"exact_match_{locale}" for locale in LOCALES} <= figures.keys()
    assert np.isfinite([figures["loss"], figures["val_loss"], figures["val_token_accuracy"]]).all()
    assert "resumed_after_epochs" not in figures


def test_curves_answers_and_alignments_are_in_tensorboards_files(dates_run):
    import tensorflow as tf

    log_dir = dates_run / "tensorboard"
    train, validation, shown = (read_events(folder) for folder in (log_dir / "train", log_dir / "validation", log_dir))
    figures = read(dates_run / "metrics.json")
    for tag in ("epoch_loss", "epoch_token_accuracy", "epoch_learning_rate"):
        assert [step for step, _ in train.scalars[tag]] == [0, 1]
    assert [step for step, _ in train.scalars["batch_loss"]] == [20, 40]
    assert train.scalars["epoch_loss"][-1][1] == pytest.approx(figures["loss"], abs=1e-4)
    assert validation.scalars["epoch_loss"][-1][1] == pytest.approx(figures["val_loss"], abs=1e-4)

    run = RunFolder.open(dates_run)
    answering, texts = text_to_text.load(run, Greedy()), read(dates_run / "samples.json")["texts"]
    answers = [answer.decode() for answer in answering(texts)["answer"].numpy()]
    assert [step for step, _ in shown.texts["answers"]] == [1, 2]
    for text, answer in zip(texts, answers, strict=True):
        assert f"| {text} | {answer} | " in shown.texts["answers"][-1][1]
    assert sorted(shown.images) == ["alignment/0", "alignment/1"]
    for index, figure in enumerate(draw(answering, texts)):  # the weights are those of the last epoch
        step, png = shown.images[f"alignment/{index}"][-1]
        assert step == 2
        drawn = tf.io.decode_png(as_png(figure), channels=3).numpy()
        np.testing.assert_array_equal(tf.io.decode_png(png).numpy(), drawn)


def test_a_run_goes_where_its_recipe_says_unless_it_is_named(tmp_path, monkeypatch, capsys):
    class Reached(Exception):
        pass

    def stop(*arguments, **options):
        raise Reached

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(text_to_text, "tokenize_pairs", stop)
    named = train_dates(Path("elsewhere/mine"))
    unnamed = [word for word in named if word not in ("--run-dir", "elsewhere/mine")]
    for arguments in (named, unnamed):
        with pytest.raises(Reached):
            main(arguments)
    assert sorted(str(path.parent) for path in Path().rglob("config.json")) == ["elsewhere/mine", "runs/dates"]


def copy_of(run, tmp_path):
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_a_run_is_not_overwritten_and_other_settings_are_refused(dates_run, capsys):
    before = {path: path.stat().st_mtime_ns for path in dates_run.rglob("*")}
    assert main(train_dates(dates_run)) == 1
    assert "a run is never overwritten. Continue it with --resume" in capsys.readouterr().err
    assert main([*train_dates(dates_run, units="13", dropout="0.2"), "--resume"]) == 1
    refusal = capsys.readouterr().err
    assert "dropout was 0.1, now 0.2" in refusal
    assert "units was 12, now 13" in refusal
    assert main([*train_dates(dates_run, num_train="331"), "--resume"]) == 1
    assert "data_fingerprint was '" in capsys.readouterr().err  # the data are part of what a run is
    assert {path: path.stat().st_mtime_ns for path in dates_run.rglob("*")} == before


def test_a_finished_run_that_is_resumed_keeps_its_figures(dates_run, tmp_path, capsys):
    run = copy_of(dates_run, tmp_path)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main([*train_dates(run), "--resume"]) == 0
    printed = capsys.readouterr().out.split()
    assert printed[printed.index("exact_match") + 1] == str(read(run / "metrics.json")["exact_match"])
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_run_that_only_lacked_its_figures_is_evaluated(dates_run, tmp_path, capsys):
    run = copy_of(dates_run, tmp_path)
    weights = keras.saving.load_model(run / "model.keras").get_weights()
    wanted = read(run / "metrics.json")
    (run / "metrics.json").unlink()
    (run / "model.keras").unlink()
    assert main([*train_dates(run), "--resume"]) == 0
    found = read(run / "metrics.json")
    assert found["resumed_after_epochs"] == 2
    assert all(found[name] == wanted[name] for name in wanted if name.startswith("exact_match"))
    for one, other in zip(keras.saving.load_model(run / "model.keras").get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_killed_run_goes_on_to_the_weights_of_an_unbroken_one(dates_run, tmp_path, capsys):
    """Bit for bit on a CPU: the order of the data, dropout, optimizer and learning rate are all taken up again."""
    run = tmp_path / "killed"
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    with (tmp_path / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "seqattn", *train_dates(run)],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    try:
        deadline = time.monotonic() + 200
        while not (run / "checkpoints" / "epoch-0001.keras").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [path.name for path in (run / "checkpoints").glob("*.keras")] == ["epoch-0001.keras"]
    assert not (run / "model.keras").exists()
    assert (tmp_path / "errors").read_text() == ""  # nor has TensorFlow said anything

    assert main(["evaluate", str(run)]) == 1
    assert "has not finished" in capsys.readouterr().err
    assert main([*train_dates(run), "--resume"]) == 0
    figures, unbroken = read(run / "metrics.json"), read(dates_run / "metrics.json")
    assert figures["resumed_after_epochs"] == 1
    assert figures["loss"] == unbroken["loss"]
    assert figures["val_loss"] == unbroken["val_loss"]
    for name in ("model.keras", "checkpoints/epoch-0002.keras"):
        resumed, whole = (keras.saving.load_model(folder / name) for folder in (run, dates_run))
        states = [
            [*model.weights, *model.optimizer.variables] for model in (resumed, whole)
        ]  # moments, learning rate and number of steps among them
        for one, other in zip(*states, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=one.path)
    resumed, whole = (read_events(folder / "tensorboard" / "train").scalars for folder in (run, dates_run))
    assert resumed["epoch_loss"] == whole["epoch_loss"]
    assert resumed["batch_loss"][-1] == whole["batch_loss"][-1]


def test_without_samples_a_run_still_has_a_text_to_warm_up_with(tmp_path):
    run = tmp_path / "run"
    assert main(train_dates(run, num_samples="0", epochs="1", num_train="44")) == 0
    assert len(read(run / "samples.json")["texts"]) == 1
    assert read_events(run / "tensorboard").images == {}


def test_a_translation_is_measured_in_bleu_with_its_signature(translate_run):
    figures = read(translate_run / "metrics.json")
    assert all(isinstance(value, int | float | str) for value in figures.values())
    assert 0 <= figures["sacrebleu"] <= 100
    assert figures["sacrebleu_signature"].startswith("nrefs:1|case:mixed|")
    assert "version:" in figures["sacrebleu_signature"]
    assert figures["test_pairs"] > 0
    assert read(translate_run / "source_tokenizer.json")["class_name"] == "SentencePieceTokenizer"


def test_bleu_is_what_sacrebleu_counts():
    from keras_seqattn.training.evaluate import exact_match, sacrebleu

    wanted = ["the house is small and old", "a bird sat on the long wall"]
    assert sacrebleu(wanted, wanted)["sacrebleu"] == 100.0
    assert sacrebleu(["x", "y"], wanted)["sacrebleu"] == 0.0
    assert exact_match([wanted[0], "x"], wanted) == 0.5


def test_tokenized_bleu_is_that_of_the_words_in_lower_case():
    from keras_seqattn.training.evaluate import tokenized_bleu

    wanted = ["Ein Mann, der z.B. läuft.", "Zwei Hunde spielen im Schnee!"]
    assert tokenized_bleu([text.upper() for text in wanted], wanted, "de") == {"tokenized_lowercase_bleu": 100.0}
    # By hand, of 7 + 6 words the last one is another: 12 of 13 words, 10 of 11 pairs, 8 of 9 triples and 6 of 7 runs of
    # four are found.
    found = ["ein mann , der z.b. läuft .", "zwei hunde spielen im schnee ?"]
    expected = 100 * (12 / 13 * 10 / 11 * 8 / 9 * 6 / 7) ** 0.25
    assert tokenized_bleu(found, wanted, "de")["tokenized_lowercase_bleu"] == pytest.approx(expected, abs=0.01)


def test_a_missing_library_for_bleu_is_told_before_the_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    data = write_pairs(tmp_path / "pairs.tsv")
    assert main(train_translate(tmp_path / "run", data)) == 1
    assert "pip install 'keras_seqattn[metrics]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
