"""What an export holds and answers: in a bare program, in the embedded server, and as in this process."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_seqattn.serving import EmbeddedServer, ModelConfig, ModelRepository, RestApplication, ask
from keras_seqattn.serving.export.saved_model import ANSWER, ATTENTION, SIGNATURES, export_text_to_text
from keras_seqattn.serving.loading import saved_model_loader
from keras_seqattn.serving.models.servable import load_saved_model
from keras_seqattn.serving.models.warmup import replay_warmup
from tests.export.conftest import DECODERS, TEXTS, TOKENIZERS

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow_only]

NAMES = [f"{tokenizer}_{decoder}" for tokenizer in TOKENIZERS for decoder in DECODERS]
TEXT_OPS = {  # tensorflow-text's; all others must be TensorFlow's own
    "sentencepiece": {"SentencepieceOp", "SentencepieceTokenizeOp", "SentencepieceDetokenizeOp"},
}


def assert_equal_answers(found, wanted, rtol=1e-4):
    """Strings and flags equal; numbers equal but for the last digits."""
    for output, value in found.items():
        if wanted[output].dtype.kind == "f":
            np.testing.assert_allclose(value, wanted[output], rtol=rtol, atol=rtol / 10, err_msg=output)
        else:
            np.testing.assert_array_equal(value, wanted[output], err_msg=output)


@pytest.fixture(scope="module")
def bare(exports):
    """What a process finds in all exports that has imported nothing but tensorflow and tensorflow_text."""
    versions = [str(exports[name].version) for name in NAMES]
    done = subprocess.run(
        [sys.executable, "-I", str(Path(__file__).parent / "bare.py"), *versions],
        input=json.dumps({"texts": [base64.b64encode(text).decode() for text in TEXTS]}),
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not {"keras", "keras_seqattn", "tf_keras"} & set(found["loaded"])
    return dict(zip(NAMES, (found["versions"][version] for version in versions), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_program_without_keras_and_our_library_gets_the_same_answers(name, bare, exports):
    answers = bare[name]["answers"]
    assert {signature: tuple(outputs) for signature, outputs in SIGNATURES.items()} == {
        "serving_default": ANSWER,
        "serving_attention": ATTENTION,
    }
    assert {signature: set(found) for signature, found in answers.items()} == {
        signature: set(outputs) for signature, outputs in SIGNATURES.items()
    }
    decode = np.vectorize(base64.b64decode, otypes=[object])
    for found in answers.values():
        for output in found.keys() & {"answer", "source_tokens", "answer_tokens"}:
            found[output] = decode(np.array(found[output], dtype=object))
        assert_equal_answers(found, exports[name].answers)


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_has_stock_ops_only(name, bare):
    """No Python, nothing that only XLA can run, and no op beyond TensorFlow's and tensorflow-text's."""
    assert bare[name]["unregistered"] == []
    ops = set(bare[name]["ops"])
    assert len(ops) > 50  # the function library was read
    assert not {op for op in ops if "PyFunc" in op or op.startswith("Xla")}
    from_text = {op for op in ops if "Sentencepiece" in op or "Normalize" in op}
    assert from_text <= TEXT_OPS.get(name.partition("_")[0], set())


@pytest.mark.parametrize("name", NAMES)
def test_the_embedded_server_answers_as_this_process(name, exports):
    exported = exports[name]
    servable = load_saved_model(exported.version)
    try:
        for signature in SIGNATURES:
            found = servable.run(signature, {"text": np.array(TEXTS, dtype=object)})
            assert_equal_answers(found, exported.answers)
    finally:
        servable.close()


@pytest.mark.rule("warmup.file")
def test_warm_up_requests_are_prediction_logs_that_the_server_replays(exports):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    version = exports["words_greedy"].version
    file = version / "assets.extra" / "tf_serving_warmup_requests"
    asked, streamed = {}, []
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == "words_greedy"
        if "text" not in request.inputs:
            streamed.append(request.model_spec.signature_name)
            continue
        asked[request.model_spec.signature_name] = tf.make_ndarray(request.inputs["text"]).tolist()
    assert asked == {name: [b"the small house", b"bird"] for name in (*SIGNATURES, "init")}
    assert streamed == ["step"]

    servable, ran = load_saved_model(version), []
    run = servable.run
    servable.run = lambda name, inputs, *rest: ran.append(name) or run(name, inputs, *rest)
    try:
        assert replay_warmup(servable, str(version)) == 4
    finally:
        servable.close()
    assert sorted(ran) == sorted([*SIGNATURES, "init", "step"])


def test_the_model_card_tells_what_the_model_is_takes_and_gives(exports):
    card = json.loads((exports["words_beam"].version / "model_card.json").read_text(encoding="utf-8"))
    assert card["name"] == "words_beam"
    settings = {"width": 3, "length_penalty": 0.6, "num_return": None, "coverage_penalty": 0.0, "constraints": []}
    assert card["decoder"] == {"name": "Beam", **settings}
    assert (card["max_source_tokens"], card["max_answer_tokens"]) == (12, 9)
    assert (card["source_tokenizer"], card["model"], card["recipe"]) == ("WordTokenizer", "Seq2Seq", "none")
    assert {name: tuple(signature["outputs"]) for name, signature in card["signatures"].items()} == SIGNATURES
    assert card["weights"] > 0
    assert card["versions"].keys() == {"tensorflow", "keras"}
    greedy = json.loads((exports["words_greedy"].version / "model_card.json").read_text(encoding="utf-8"))
    assert greedy["decoder"] == {"name": "Greedy", "constraints": []}
    assert list(greedy["signatures"]) == [*SIGNATURES, "init", "step"]  # beams, which change, do not stream


def test_rest_answers_as_this_process(exports):
    """Through the application alone: broken bytes as base64, in rows and in columns."""
    exported = exports["characters_beam"]
    configs = [ModelConfig("m", str(exported.version.parent))]
    repository = ModelRepository(configs, saved_model_loader(), max_num_load_retries=0)
    repository.poll()
    try:
        app = RestApplication(repository)
        texts = [{"b64": base64.b64encode(text).decode()} for text in TEXTS]
        for body, read in (
            ({"instances": texts}, lambda answer: answer["predictions"]),
            ({"inputs": {"text": texts}}, lambda answer: columns_as_rows(answer["outputs"])),
        ):
            response = app.handle("POST", "/v1/models/m:predict", json.dumps(body))
            assert response.status == 200, response.body
            rows = read(json.loads(response.body))
            for row, wanted in zip(rows, answers_as_rows(exported.answers), strict=True):
                assert row.pop("score") == pytest.approx(wanted.pop("score"), rel=1e-4)
                assert row == wanted
    finally:
        repository.close()


def columns_as_rows(columns):
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def answers_as_rows(answers):
    texts = [answer.decode("utf-8") for answer in answers["answer"]]
    return columns_as_rows({**{name: answers[name].tolist() for name in ANSWER}, "answer": texts})


def test_asking_over_the_wire_gives_answers_with_their_alignment(exports):
    exported = exports["words_greedy"]
    texts = [text.decode() for text in TEXTS if b"\xff" not in text]
    rows = [row for row, text in enumerate(TEXTS) if b"\xff" not in text]
    with EmbeddedServer({"m": exported.version.parent}) as server:
        found = ask(server.url, "m", texts, signature_name="serving_attention")
    for row, answer in zip(rows, found, strict=True):
        assert answer.keys() == set(ATTENTION)
        assert answer["answer"] == exported.answers["answer"][row].decode()
        assert answer["source_truncated"] == exported.answers["source_truncated"][row]
        source, tokens = np.array(answer["source_tokens"]), np.array(answer["answer_tokens"])
        assert np.shape(answer["attention"]) == (len(tokens), len(source))


def test_an_export_compiled_by_xla_answers_the_same(words, tmp_path):
    """The strings stay outside of what XLA compiles, and a new length of text compiles anew."""
    version = export_text_to_text(words, tmp_path / "m", {}, ["bird"], use_xla=True)
    servable = load_saved_model(version)
    try:
        assert replay_warmup(servable, str(version)) == 2
        for texts in (TEXTS[:2], TEXTS[1:6]):
            wanted = {name: value.numpy() for name, value in words(texts).items()}
            found = servable.run("serving_attention", {"text": np.array(texts, dtype=object)})
            assert_equal_answers(found, wanted, rtol=1e-2)  # the weights are large, and XLA adds up in another order
    finally:
        servable.close()


def test_a_trained_run_is_exported_as_it_was_evaluated(dates_run, tmp_path, capsys):
    from keras_seqattn.cli import main
    from keras_seqattn.decoding import Beam
    from keras_seqattn.training import text_to_text
    from keras_seqattn.training.run_folder import RunFolder

    assert main(["export", str(dates_run), "--to", str(tmp_path), "--beam-width", "2", "--length-penalty", "0.5"]) == 0
    version = tmp_path / "dates" / "1"
    assert capsys.readouterr().out.strip() == str(version)
    answering = text_to_text.load(RunFolder.open(dates_run), Beam(2, 0.5))
    texts = ["5 March 2021", "2021年3月5日", ""]
    servable = load_saved_model(version)
    try:
        found = servable.run("serving_attention", {"text": np.array([text.encode() for text in texts], dtype=object)})
        assert_equal_answers(found, {name: value.numpy() for name, value in answering(texts).items()})
    finally:
        servable.close()
    card = json.loads((version / "model_card.json").read_text(encoding="utf-8"))
    metrics = json.loads((dates_run / "metrics.json").read_text(encoding="utf-8"))
    assert (card["recipe"], card["metrics"]) == ("dates", metrics)
    assert card["decoder"]["width"] == 2
