"""The recipes that train transformers, from the command line to their figures, on runs of seconds."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from keras_seqattn.cli import main
from keras_seqattn.models import GPT, Transformer
from keras_seqattn.text import BytePairTokenizer, CharacterTokenizer, load_tokenizer
from keras_seqattn.training.data import TextParts
from keras_seqattn.training.gpt_language_model import Config, anywhere, measure
from keras_seqattn.training.run_folder import RunFolder
from tests.training.runs import options, train_translate, write_pairs, write_text

pytestmark = pytest.mark.tensorflow_only

SIZES = {"--model-dim": "12", "--num-heads": "3", "--num-layers": "2", "--warmup-steps": "3", "--xla": "off"}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_transformer_translates_is_resumed_evaluated_and_exported(tmp_path, capsys):
    data, run = write_pairs(tmp_path / "pairs.tsv"), tmp_path / "run"
    common = ["train", "translate", "--model", "transformer", "--run-dir", str(run), "--data", str(data)]
    settings = {
        **SIZES,
        "--epochs": "3",
        "--feed-forward-dim": "10",
        "--tokenizer": "characters",
        "--average-checkpoints": "2",
        "--beam-width": "2",
        "--precision": "mixed_bfloat16",
        "--num-samples": "1",
    }
    assert main([*common, *options(settings)]) == 0
    figures = read(run / "metrics.json")
    assert {"sacrebleu", "sacrebleu_signature", "averaged_val_loss"} <= figures.keys()
    model = keras.saving.load_model(run / "model.keras")
    assert isinstance(model, Transformer) and model.share_embeddings
    assert model.dtype_policy.name == "mixed_bfloat16"
    assert (run / "source_tokenizer.json").read_bytes() == (run / "target_tokenizer.json").read_bytes()
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told["sacrebleu"] == str(figures["sacrebleu"])
    assert main(["export", str(run), "--to", str(tmp_path / "models")]) == 0
    assert (tmp_path / "models" / "translate" / "1" / "saved_model.pb").is_file()


def test_translate_refuses_a_setting_of_another_model(tmp_path, capsys):
    data = write_pairs(tmp_path / "pairs.tsv")
    assert main([*train_translate(tmp_path / "run", data), "--model", "transformer"]) == 2
    assert "seqattn train translate: unknown setting --" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("tokens", "kind"), [("characters", CharacterTokenizer), ("byte_pairs", BytePairTokenizer)])
def test_gpt_reads_a_text_and_writes_one(tmp_path, capsys, tokens, kind):
    data, run = write_text(tmp_path / "text.txt"), tmp_path / "run"
    settings = {
        **SIZES,
        "--tokens": tokens,
        "--vocabulary-size": "290",
        "--epochs": "2",
        "--window": "16",
        "--batch-size": "8",
        "--written-length": "15",
    }
    command = ["train", "language_model", "--model", "gpt", "--run-dir", str(run), "--data", str(data)]
    assert main([*command, *options(settings)]) == 0
    figures = read(run / "metrics.json")
    assert isinstance(load_tokenizer(RunFolder(run).tokenizer), kind)
    assert isinstance(keras.saving.load_model(run / "model.keras"), GPT)
    assert figures["test_bits_per_character"] == pytest.approx(figures["test_nats_per_character"] / np.log(2), abs=1e-3)
    if tokens == "characters":  # the same windows as in the training, where a batch counts as one, full or not
        assert figures["validation_nats_per_character"] == pytest.approx(figures["val_loss"], rel=0.02)
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    assert f"test_bits_per_character        {figures['test_bits_per_character']}" in capsys.readouterr().out


def test_windows_begin_anywhere_and_depend_on_the_seed_and_the_epoch_alone():
    config = Config(window=5, batch_size=3, epochs=3, written_length=4)
    ids = np.arange(100, dtype="int32")
    whole = [batch for batch, _ in anywhere(ids, config, steps=4, first_epoch=0).as_numpy_iterator()]
    resumed = [batch for batch, _ in anywhere(ids, config, steps=4, first_epoch=1).as_numpy_iterator()]
    np.testing.assert_array_equal(whole[4:], resumed)
    assert len({int(row[0]) for batch in whole for row in batch}) > 20
    for inputs, targets in anywhere(ids, config, steps=4, first_epoch=2).as_numpy_iterator():
        np.testing.assert_array_equal(targets, inputs + 1)


def test_each_token_of_a_part_counts_once():
    """A model that finds all tokens alike has log(vocabulary) nats of each."""
    tokenizer = CharacterTokenizer("abcd \n")
    model = GPT(tokenizer.vocabulary_size, 8, model_dim=6, num_layers=1, num_heads=2)
    for weight in model.trainable_variables:
        weight.assign(np.zeros(weight.shape))
    parts = TextParts("", "abcad bdc\nacbd", "ab dd cab\nddab dd")
    figures = measure(model, tokenizer, Config(window=8, batch_size=2, written_length=4), parts)
    assert figures["test_nats_per_character"] == pytest.approx(np.log(tokenizer.vocabulary_size), abs=1e-3)
    assert figures["validation_bits_per_character"] == pytest.approx(np.log2(tokenizer.vocabulary_size), abs=1e-3)


def test_a_text_longer_than_the_window_is_not_promised():
    with pytest.raises(ValueError, match="`written_length` must be below `window`.*written_length=16, window=16"):
        Config(window=16, written_length=16)
