"""The recipe finetune_classifier: what it begins with, what its figures are, and how its run goes on."""

from __future__ import annotations

import json
import random

import keras
import numpy as np
import pytest

from keras_seqattn.cli import main
from keras_seqattn.models import GPT, Bert
from keras_seqattn.text import CharacterTokenizer, WordPieceTokenizer, load_tokenizer
from keras_seqattn.training.bert import take_encoder
from keras_seqattn.training.recipes.finetune_classifier import (
    Config,
    count,
    encode,
    load_encoder,
    macro_f1,
    measure,
)
from keras_seqattn.training.run_folder import RunFolder
from tests.training.events import read_events
from tests.training.runs import check_resumed_equals_unbroken, options

pytestmark = pytest.mark.tensorflow_only

WORDS = [f"w{chr(97 + n)}" for n in range(20)]
TOKENIZER = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])
SIZES = {"vocabulary_size": 25, "max_length": 11, "model_dim": 8, "num_layers": 2, "num_heads": 2}
SETTINGS = {
    "--model-dim": "8",
    "--num-layers": "1",
    "--num-heads": "2",
    "--bucket-boundaries": "6 9",
    "--batch-size": "16",
    "--vocabulary-size": "60",
    "--epochs": "2",
    "--warmup-steps": "5",
    "--xla": "off",
}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def write_texts(path, rows=360):
    """Texts of three classes: the class is which of three words stands somewhere among others."""
    rng, lines = random.Random(0), []
    for number in range(rows):
        words = rng.choices(WORDS[3:], k=rng.randint(2, 5))
        words.insert(rng.randint(0, len(words)), WORDS[number % 3])
        lines.append(f"{' '.join(words)}\t{('one', 'two', 'so so')[number % 3]}\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def random_bert(seed, **changes):
    """A `Bert` whose weights are all different."""
    model, rng = Bert(**{**SIZES, **changes}), np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(0.5 * rng.normal(size=variable.shape))
    return model


def values_of(model):
    return {variable.path: variable.numpy() for variable in model.weights}


# ---- encoders ----


@pytest.mark.parametrize("head", [None, "masked_words", "sequence", "tokens"])
def test_taking_an_encoder_changes_all_but_the_head(head):
    classes = {"num_classes": 5} if head in ("sequence", "tokens") else {}
    source, model = random_bert(1, head=head, **classes), random_bert(2, head="sequence", num_classes=3)
    before, theirs = values_of(model), values_of(source)
    take_encoder(model, source)
    kept = {"classes", "pooler"} - ({"pooler"} if head == "sequence" else set())
    assert {path.split("/")[0] for path in before} > kept
    for path, value in values_of(model).items():
        np.testing.assert_array_equal(value, before[path] if path.split("/")[0] in kept else theirs[path], err_msg=path)
    ids = np.array([[2, 7, 9, 3, 0], [2, 8, 3, 0, 0]])
    for one, other in zip(model.hidden_states(ids), source.hidden_states(ids), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_dim": 6}, r"embedding/embeddings \(25, 8\) there, \(25, 6\) here.*, and \d+ more"),
        ({"vocabulary_size": 26}, r"Received: embedding/embeddings \(25, 8\) there, \(26, 8\) here\.$"),
        ({"num_heads": 4}, r"query/kernel \(8, 2, 4\) there, \(8, 4, 2\) here"),
        ({"num_layers": 1}, r"block_1/.* \(.*\) there, nowhere here"),
        ({"num_layers": 3}, r"block_2/.* nowhere there, \(.*\) here"),
    ],
)
def test_an_encoder_of_other_sizes_is_refused_with_both_shapes(changes, message):
    model = random_bert(2, head="sequence", num_classes=3, **changes)
    before = values_of(model)
    with pytest.raises(ValueError, match=message):
        take_encoder(model, random_bert(1))
    for path, value in values_of(model).items():
        np.testing.assert_array_equal(value, before[path])


def save_run(path, model, tokenizer):
    run = RunFolder.start(path, {"recipe": "masked_language_model"})
    tokenizer.save(run.tokenizer)
    run.save_model(model, run.model)
    return str(path)


def test_an_encoder_comes_from_a_run_or_is_refused(tmp_path):
    model = random_bert(1, head="masked_words")
    found, tokenizer = load_encoder(save_run(tmp_path / "run", model, TOKENIZER))
    for path, value in values_of(found).items():
        np.testing.assert_array_equal(value, values_of(model)[path])
    assert tokenizer.vocabulary == TOKENIZER.vocabulary
    other = save_run(tmp_path / "other", GPT(19, 7, model_dim=8, num_layers=1, num_heads=2), CharacterTokenizer("ab"))
    with pytest.raises(ValueError, match="must hold a Bert and a WordPieceTokenizer. Received: .* with GPT and Char"):
        load_encoder(other)
    (tmp_path / "run" / "model.keras").unlink()
    with pytest.raises(ValueError, match="has not finished"):
        load_encoder(str(tmp_path / "run"))
    with pytest.raises(FileNotFoundError, match="must be a folder, or a name on the hub"):
        load_encoder(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("kind", ["BertForMaskedLM", "BertModel", "BertForSequenceClassification"])
@pytest.mark.slow
def test_an_encoder_comes_from_hugging_face_with_its_pooler_where_it_has_one(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=25, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=11, num_labels=4,
    )  # fmt: skip
    theirs = getattr(transformers, kind)(config)
    theirs.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in TOKENIZER.vocabulary))
    encoder, tokenizer = load_encoder(str(tmp_path))
    assert tokenizer.vocabulary == TOKENIZER.vocabulary
    keras.utils.set_random_seed(0)
    model = Config().build(encoder.get_config(), name=None, head="sequence", num_classes=3)
    take_encoder(model, encoder)
    ids = np.array([[2, 7, 9, 12, 3]])
    base = getattr(theirs, "bert", theirs).eval()
    with torch.no_grad():
        wanted = base(torch.tensor(ids))
    np.testing.assert_allclose(model.hidden_states(ids)[-1], wanted.last_hidden_state.numpy(), atol=1e-5)
    if kind != "BertForMaskedLM":
        pooler = model.get_layer("pooler")
        np.testing.assert_allclose(pooler.kernel.numpy(), base.pooler.dense.weight.detach().numpy().T)
    assert model.output_shape == (None, 3)


# ---- batches and figures ----


def texts_of(lengths):
    return [(" ".join(WORDS[:length]), "ab"[number % 2]) for number, length in enumerate(lengths)]


def test_texts_are_sorted_by_length_cut_and_padded():
    part = encode(texts_of([3, 9, 1, 12, 4]), "ab", TOKENIZER, Config(bucket_boundaries=(5, 7)))
    assert [len(row) for row in part.rows] == [5, 7, 3, 7, 6]
    assert part.num_cut == 2
    assert all(row[0] == TOKENIZER.start_id and row[-1] == TOKENIZER.end_id for row in part.rows)
    limited = TOKENIZER.encode([text for text, _ in texts_of([3, 9, 1, 12, 4])], max_length=7)
    for row, wanted, mask in zip(part.rows, limited.ids.numpy(), limited.mask.numpy(), strict=True):
        np.testing.assert_array_equal(row, wanted[mask])
    batches = [(x["ids"].numpy(), y.numpy(), w.numpy()) for x, y, w in part.batches(2)]
    assert [(ids.shape, y.tolist(), w.tolist()) for ids, y, w in batches] == [
        ((2, 5), [0, 0], [1, 1]),
        ((2, 7), [1, 1], [1, 1]),
        ((2, 7), [0, 0], [1, 0]),
    ]
    assert not batches[-1][0][1].any()


def test_an_epoch_depends_on_the_seed_and_the_epoch_alone():
    part = encode(texts_of(np.arange(57) % 9 + 1), "ab", TOKENIZER, Config(bucket_boundaries=(5, 9)))
    whole, rest = (
        [(x["ids"].numpy(), y.numpy(), w.numpy()) for x, y, w in part.batches(8, seed=3, first_epoch=epoch, epochs=3)]
        for epoch in (0, 2)
    )
    steps = part.steps(8)
    assert (len(whole), len(rest)) == (3 * steps, steps)
    for one, other in zip(whole[2 * steps :], rest, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    for epoch in range(3):  # each text once
        assert sum(w.sum() for _, _, w in whole[epoch * steps : (epoch + 1) * steps]) == 57
    assert any((a[1] != b[1]).any() for a, b in zip(whole[:steps], whole[steps : 2 * steps], strict=True))


def test_macro_f1_is_that_of_a_count_by_hand():
    wanted = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 0])
    found = np.array([0, 0, 1, 1, 2, 2, 2, 0, 2, 4])
    counts = count(found, wanted, 6)
    assert counts.tolist() == [[4, 3, 2], [2, 2, 1], [4, 4, 3], [0, 0, 0], [0, 1, 0], [0, 0, 0]]
    # Class 0: precision 2/3, recall 2/4, F1 4/7. Class 1: 1/2. Class 2: 3/4. Class 4: 0. Classes 3 and 5 never occur.
    assert macro_f1(counts) == pytest.approx((4 / 7 + 1 / 2 + 3 / 4 + 0) / 4)
    assert macro_f1(count(wanted, wanted, 6)) == 1.0


def test_the_figures_are_those_of_each_text_read_alone():
    model = random_bert(1, head="sequence", num_classes=2)
    parts = {
        name: encode(texts_of(lengths), "ab", TOKENIZER, Config(bucket_boundaries=(5, 11)))
        for name, lengths in (("test", np.arange(37) % 8 + 1), ("validation", [1, 5, 2]))
    }
    figures = measure(model, parts, "ab", 8)
    for name, part in parts.items():
        found = [int(np.argmax(model({"ids": row[None]}))) for row in part.rows]
        assert figures[f"{name}_accuracy"] == pytest.approx(np.mean(found == part.classes), abs=1e-5)
    part = parts["test"]
    found = np.array([int(np.argmax(model({"ids": row[None]}))) for row in part.rows])
    for index, label in enumerate("ab"):
        assert figures[f"test_texts_{label}"] == (part.classes == index).sum()
        assert figures[f"test_found_{label}"] == (found == index).sum()
        assert figures[f"test_right_{label}"] == ((part.classes == index) & (found == index)).sum()


# ---- runs ----


def train(run, data, **changes):
    changes = {"--" + name.replace("_", "-"): value for name, value in changes.items()}
    words = options({**SETTINGS, **changes})
    return ["train", "finetune_classifier", "--run-dir", str(run), "--data", str(data), *words]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    base = tmp_path_factory.mktemp("classifier")
    assert main(train(base / "run", write_texts(base / "texts.tsv"))) == 0
    return base / "run"


@pytest.mark.slow
def test_a_finished_run_has_its_files_figures_and_curves(finished, capsys):
    names = [
        "checkpoints",
        "config.json",
        "labels.json",
        "metrics.json",
        "model.keras",
        "tensorboard",
        "tokenizer.json",
    ]
    assert sorted(path.name for path in finished.iterdir()) == names
    assert read(finished / "labels.json") == {"labels": ["one", "so so", "two"]}
    figures = read(finished / "metrics.json")
    assert all(isinstance(value, int | float) for value in figures.values())
    assert figures["test_texts"] == sum(figures[f"test_texts_{label}"] for label in ("one", "so_so", "two"))
    assert figures["validation_accuracy"] == pytest.approx(figures["val_accuracy"], abs=1e-5)
    accuracy = read_events(finished / "tensorboard" / "validation").scalars["epoch_accuracy"]
    assert accuracy[-1] == (1, pytest.approx(figures["val_accuracy"], abs=1e-5))
    assert main(["evaluate", str(finished)]) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert {name: float(value) for name, value in printed.items()} == {name: figures[name] for name in printed}
    assert len(printed) == 5 + 9


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_weights_of_an_unbroken_one(finished, tmp_path, monkeypatch):
    arguments = train(tmp_path / "run", finished.parent / "texts.tsv")
    check_resumed_equals_unbroken(arguments, tmp_path / "run", finished, monkeypatch)


@pytest.mark.slow
def test_it_begins_with_the_encoder_of_a_run_and_learns(tmp_path):
    keras.utils.set_random_seed(0)
    encoder = Bert(**{**SIZES, "model_dim": 32, "num_layers": 1}, head="masked_words")
    init = save_run(tmp_path / "encoder", encoder, TOKENIZER)
    data = write_texts(tmp_path / "texts.tsv", rows=900)
    sizes = {"model_dim": "0", "num_layers": "0", "num_heads": "0"}
    changes = {"epochs": "6", "learning_rate": "5e-3", "dropout": "0.0", "attention_dropout": "0.0"}
    assert main(train(tmp_path / "run", data, init=init, **sizes, **changes)) == 0
    run = RunFolder.open(tmp_path / "run")
    assert load_tokenizer(run.tokenizer).vocabulary == TOKENIZER.vocabulary
    model = keras.saving.load_model(run.model)
    assert (model.model_dim, model.num_layers, model.max_length) == (32, 1, 11)
    assert read(run.path / "metrics.json")["test_accuracy"] > 0.95  # 1 in 3 by chance


def test_lengths_that_do_not_ascend_are_refused():
    for bounds in ((), (9, 9), (2, 9)):
        with pytest.raises(ValueError, match="`bucket_boundaries` must ascend, from 3 at least"):
            Config(bucket_boundaries=bounds)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_dim": "9"}, "`num_heads` must divide `model_dim`"),
        ({"init": "nowhere/at/all"}, "must be a folder, or a name on the hub"),
        ({"init": "ENCODER"}, r"(25, 8) there, (25, 6) here"),
        ({"init": "ENCODER", "bucket_boundaries": "12", "model_dim": "8"}, "reads 11 tokens at most"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_written(tmp_path, capsys, changes, message):
    if changes.get("init") == "ENCODER":
        init = save_run(tmp_path / "encoder", random_bert(1, head="masked_words"), TOKENIZER)
        changes = {"model_dim": "6", **changes, "init": init}
    data = write_texts(tmp_path / "texts.tsv", rows=100)
    assert main(train(tmp_path / "run", data, **changes)) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
