"""`init` and `step`: the pieces of a text, joined, are the whole text, and the client holds all there is to hold."""

from __future__ import annotations

import base64
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from keras_seqattn.decoding import Beam, Prefix, Sampling, SuppressTokens
from keras_seqattn.models import Seq2Seq, Transformer
from keras_seqattn.serving import EmbeddedServer, ModelConfig, ModelRepository, RestApplication
from keras_seqattn.serving.export.saved_model import export_text_generation, export_text_to_text
from keras_seqattn.serving.export.streaming import formed, names_of, restored, sendable, streaming_of
from keras_seqattn.serving.loading import saved_model_loader
from keras_seqattn.serving.models.servable import load_saved_model
from keras_seqattn.text import TextToText
from tests.export.bare import ops_of
from tests.export.generating import BYTES, CHARACTERS, PROMPTS, P, T, arrays, generation, untrained
from tests.pages import ROOT, blocks

pytestmark = pytest.mark.tensorflow_only

# Bytes that make é and € of two and three tokens each, or nothing; a letter, and the end.
OTHERS = [
    i for i in range(BYTES.vocabulary_size) if i not in {*BYTES.tokenize(["é€a"]).flat_values.numpy(), BYTES.end_id}
]
EXTRA_STEPS = 2


def sampling(**settings: Any) -> Sampling:
    """So warm that no two rows write the same."""
    return Sampling(temperature=5.0, seed=3, **settings)


def text_to_text(kind: Any, decoder: Any = None, **settings: Any) -> TextToText:
    """`TextToText` by a small model."""
    size = CHARACTERS.vocabulary_size
    return TextToText(untrained(1, size, size, kind=kind, **settings), CHARACTERS, CHARACTERS, P, T, decoder)


def answering(name: str) -> Any:
    """A model of each kind that streams: caches in slots and in a ring, constraints, what an attention remembers."""
    if name == "bytes":
        return generation(BYTES, sampling(constraints=[SuppressTokens(OTHERS)]), empty_prompt=None)
    if name == "greedy":
        return generation(positions="learned")
    if name == "ring":
        return generation(decoder=sampling(), positions="rotary", sliding_window=4, num_layers=2)
    if name == "transformer":
        return text_to_text(Transformer, sampling(), model_dim=12, num_heads=2, num_layers=1, tie_output=False)
    return text_to_text(Seq2Seq, sampling(), units=7, attention="location_sensitive")


NAMES = ("bytes", "greedy", "ring", "transformer", "seq2seq")
EXPORTED = ("bytes", "transformer")


class Stream:
    """What a model streams in this process, step by step as it comes, and the text that it writes in one call."""

    def __init__(self, name: str) -> None:
        self.answering = answering(name)
        self.end_id = (BYTES if name == "bytes" else CHARACTERS).end_id
        whole = arrays(self.answering(PROMPTS))
        self.whole = whole.get("text", whole.get("answer")).tolist()
        self.functions = streaming_of(self.answering)
        tensors = self.init(*PROMPTS)
        self.steps = [tensors]
        for _ in range(T - 1):
            tensors = {**tensors, **self.step(tensors)}
            self.steps.append(tensors)
        self.after = [tensors]
        for _ in range(EXTRA_STEPS):
            self.after.append({**self.after[-1], **self.step(self.after[-1])})

    def init(self, *texts: bytes) -> dict[str, np.ndarray]:
        import tensorflow as tf

        return arrays(self.functions.init(tf.constant(texts, tf.string)))

    def step(self, tensors: Any) -> dict[str, np.ndarray]:
        import tensorflow as tf

        return arrays(self.functions.step({name: tf.constant(tensors[name]) for name in self.names}))

    @property
    def names(self) -> list[str]:
        return list(self.functions.input_signature())


@functools.cache
def streamed(name: str) -> Stream:
    """The stream of a model, made once for all tests that look at it."""
    return Stream(name)


@pytest.fixture(params=NAMES)
def stream(request):
    return streamed(request.param)


@pytest.fixture
def greedy():
    return streamed("greedy")


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """Versions by name, each exported once."""
    folder = tmp_path_factory.mktemp("saved_models")

    @functools.cache
    def exported(name: str) -> Path:
        model = answering(name)
        export = export_text_to_text if isinstance(model, TextToText) else export_text_generation
        return export(model, folder / name, {}, ["", "ab"])

    return exported


def joined(steps):
    return [b"".join(pieces) for pieces in zip(*steps, strict=True)]


def test_the_pieces_joined_are_the_whole_text(stream):
    pieces = [step["piece"].tolist() for step in stream.steps]
    assert joined(pieces) == stream.whole
    assert len(set(stream.whole)) > 2  # or equal texts would prove little
    assert sum(bool(piece) for step in pieces for piece in step) > len(set(stream.whole))  # and so would one piece each


def test_a_piece_is_whole_characters(stream):
    for step in stream.steps:
        for piece in step["piece"]:
            piece.decode("utf-8")


def test_a_character_of_several_tokens_comes_with_its_last_byte():
    """Before it there are empty pieces, with no U+FFFD in the place of half a character."""
    forced = BYTES.tokenize(["é€a€é"]).flat_values.numpy().tolist()[:T]  # the last é is cut in half
    model = generation(BYTES, Sampling(seed=3, constraints=[Prefix(forced)]), lengths=(P, len(forced)))
    functions, pieces = streaming_of(model), []
    tensors = functions.init([b"a"])
    for _ in forced:
        pieces.append(tensors["piece"].numpy()[0].decode())
        tensors = {**tensors, **functions.step({name: tensors[name] for name in functions.input_signature()})}
    assert pieces == ["", "é", "", "", "€", "a", "", "\ufffd"]
    assert arrays(model(["a"]))["text"][0].decode() == "é€a\ufffd"


def test_rows_end_one_by_one_and_then_nothing_more_comes(stream):
    finished = np.array([step["finished"] for step in stream.steps])  # (T, B)
    ended = np.array([step["ended"] for step in stream.steps])
    assert finished[-1].all()
    assert (ended <= finished).all()
    assert (finished[1:] >= finished[:-1]).all()
    for time, step in enumerate(stream.steps[1:], start=1):
        for row in np.flatnonzero(finished[time - 1]):
            assert step["piece"][row] == b""
            assert step["token_id"][row] == stream.end_id
    for step in stream.after[1:]:
        assert not any(step["piece"])
        assert step["finished"].all()
        for name in stream.names:
            np.testing.assert_array_equal(step[name], stream.after[0][name])


def test_some_rows_end_before_others():
    finished = np.array([step["finished"] for step in streamed("bytes").steps])
    assert (finished.any(axis=1) & ~finished.all(axis=1)).any()


def test_all_steps_have_one_shape(stream):
    shapes = [{name: step[name].shape for name in stream.names} for step in stream.steps]
    assert all(one == shapes[0] for one in shapes)


def test_the_state_has_one_shape_whatever_the_prompts_length(greedy):
    short, long = greedy.init(b"a"), greedy.init(b"abcd" * 9)
    assert {name: x.shape for name, x in short.items()} == {name: x.shape for name, x in long.items()}


def test_an_empty_batch_streams_nothing(greedy):
    assert {len(x) for x in greedy.step(greedy.init()).values()} == {0}


def test_a_batch_of_streams_that_stand_at_different_steps_goes_on_as_each_alone(greedy):
    """As a server makes it that batches the requests of several clients."""
    early, late = greedy.init(PROMPTS[1]), greedy.init(PROMPTS[2], PROMPTS[3])
    for _ in range(2):
        late = {**late, **greedy.step(late)}
    alone = [greedy.step(tensors) for tensors in (early, late)]
    found = greedy.step({name: np.concatenate([early[name], late[name]]) for name in greedy.names})
    for name, value in found.items():
        wanted = np.concatenate([one[name] for one in alone])
        if value.dtype.kind == "f":
            np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(value, wanted)


def test_one_row_sampled_with_a_seed_streams_the_same_in_a_batch_of_strangers():
    stream = streamed("bytes")
    first, other = stream.init(b"a"), stream.init(b"abc")
    alone = stream.step(other)
    found = stream.step({name: np.concatenate([first[name], other[name]]) for name in stream.names})
    assert found["token_id"][1] == alone["token_id"][0]
    np.testing.assert_array_equal(found["state_seed"][1], other["state_seed"][0])


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_a_program_without_our_library_streams_the_same(name, version):
    texts = [base64.b64encode(text).decode() for text in PROMPTS]
    done = subprocess.run(
        [sys.executable, "-I", str(Path(__file__).parent / "bare_stream.py"), str(version(name))],
        input=json.dumps({"texts": texts, "extra_steps": EXTRA_STEPS}),
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not {"keras", "keras_seqattn", "tf_keras"} & set(found["loaded"])
    (found,) = found["versions"].values()
    whole = streamed(name).whole
    assert joined([decoded(step["piece"]) for step in found["steps"]]) == decoded(found["whole"]) == whole
    assert found["one_shape"]
    assert found["unchanged"]
    assert not any(piece for step in found["after"] for piece in step["piece"])


def decoded(pieces):
    return [base64.b64decode(piece) for piece in pieces]


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_the_tensors_of_an_export_have_the_batch_first_and_travel_over_rest(name, version):
    """Row by row, as the REST interface has it; and the warm-up requests are answered."""
    model = ModelConfig("m", str(version(name).parent))
    repository = ModelRepository([model], saved_model_loader(), max_num_load_retries=0)
    repository.poll()
    try:
        app = RestApplication(repository)
        metadata = json.loads(app.handle("GET", "/v1/models/m/metadata", b"").body)
        signatures = metadata["metadata"]["signature_def"]["signature_def"]
        inputs, outputs = signatures["step"]["inputs"], signatures["step"]["outputs"]
        for spec in [*signatures["init"]["outputs"].values(), *inputs.values(), *outputs.values()]:
            assert spec["tensor_shape"]["dim"][0]["size"] == "-1"
            assert spec["dtype"] in ("DT_FLOAT", "DT_INT32", "DT_BOOL", "DT_STRING")
        assert inputs.keys() <= signatures["init"]["outputs"].keys()
        assert {name for name in inputs if name.startswith("state_")} <= outputs.keys()
        assert all(name.startswith(("state_", "memory_")) for name in inputs)

        def ask(signature, instances):
            body = json.dumps({"signature_name": signature, "instances": instances})
            response = app.handle("POST", "/v1/models/m:predict", body)
            assert response.status == 200, response.body
            return json.loads(response.body)["predictions"]

        text = "text" if name == "transformer" else "prompt"
        rows = ask("init", [{text: {"b64": base64.b64encode(one).decode()}} for one in PROMPTS])
        texts = [row["piece"] for row in rows]
        for _ in range(T - 1):
            sent = [{k: v for k, v in row.items() if k.startswith(("state_", "memory_"))} for row in rows]
            rows = [{**row, **new} for row, new in zip(rows, ask("step", sent), strict=True)]
            texts = [text + row["piece"] for text, row in zip(texts, rows, strict=True)]
        assert texts == [text.decode() for text in streamed(name).whole]
        assert all(row["finished"] for row in rows)
    finally:
        repository.close()


@pytest.mark.slow
@pytest.mark.parametrize("program", blocks(ROOT / "docs" / "serving.md", "python with a server"))
def test_the_clients_of_the_docs_stream_what_the_default_signature_answers(version, program, capsys):
    with EmbeddedServer({"m": version("greedy").parent}) as server:
        assert "http://localhost:8501" in program
        program = program.replace("http://localhost:8501", server.url).replace("NAME", "m")
        exec(compile(program, "serving.md", "exec"), {})
        url = f"{server.url}/v1/models/m:predict"
        (whole,) = httpx.post(url, json={"instances": ["Once"]}, timeout=60).json()["predictions"]
    assert capsys.readouterr().out == whole["text"] != ""


@pytest.mark.slow
def test_the_card_tells_signatures_and_decoder(version):
    card = json.loads((version("bytes") / "model_card.json").read_text(encoding="utf-8"))
    assert card["task"] == "text generation"
    assert (card["decoder"]["name"], card["decoder"]["seed"]) == ("Sampling", 3)
    assert card["decoder"]["constraints"] == [{"name": "SuppressTokens", "ids": OTHERS}]
    assert list(card["signatures"]) == ["serving_default", "init", "step"]
    assert card["signatures"]["serving_default"]["inputs"] == ["prompt"]
    assert {"state_seed", "state_ids", "memory_first"} <= set(card["signatures"]["step"]["inputs"])
    assert (card["max_prompt_tokens"], card["max_new_tokens"]) == (P, T)


@pytest.mark.slow
def test_the_graph_has_stock_ops_only(version):
    found = ops_of(str(version("bytes")))
    assert found["unregistered"] == []
    assert len(found["ops"]) > 50  # the function library was read
    assert not {op for op in found["ops"] if "PyFunc" in op or op.startswith("Xla") or "Sentencepiece" in op}


@pytest.mark.slow
def test_there_is_a_warm_up_request_for_every_signature_and_it_is_small(version):
    """A server replays them when it loads the version, as the test over REST does."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    records = tf.data.TFRecordDataset(str(version("bytes") / "assets.extra" / "tf_serving_warmup_requests"))
    requests = [
        prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        for record in records.as_numpy_iterator()
    ]
    assert [request.model_spec.signature_name for request in requests] == ["serving_default", "init", "step"]
    cache = requests[-1].inputs["state_model_caches_0_key"]
    assert len(cache.float_val) + len(cache.tensor_content) == 1
    assert tf.make_ndarray(cache).shape == (2, P + T - 1, 2, 6)


@pytest.mark.slow
def test_a_sampled_export_without_a_seed_writes_new_texts_at_each_call(tmp_path):
    free = generation(decoder=Sampling(temperature=3.0))
    servable = load_saved_model(export_text_generation(free, tmp_path / "m", {}, [""]))
    try:
        prompts = {"prompt": np.array(PROMPTS, dtype=object)}
        first, second = (servable.run("serving_default", prompts)["text"].tolist() for _ in range(2))
        assert first != second
        assert (servable.run("init", prompts)["state_seed"] != servable.run("init", prompts)["state_seed"]).any()
    finally:
        servable.close()


def test_what_may_change_what_it_has_written_does_not_stream():
    assert streaming_of(generation(decoder=Beam(2))) is None


def test_numbers_of_a_whole_call_and_narrow_floats_travel_in_rows():
    import tensorflow as tf

    structure = {
        "seed": tf.constant([3, 4]),
        "time": tf.constant(5),
        "key": tf.ones((2, 3), tf.bfloat16) / 3,
        "list": (1,),
    }
    sent = sendable(structure, 2)
    assert {name: (x.dtype.name, x.shape.as_list()) for name, x in sent.items()} == {
        "key": ("float32", [2, 3]),
        "list_0": ("int32", [2]),
        "seed": ("int32", [2, 2]),
        "time": ("int32", [2]),
    }
    found = names_of(restored(formed(structure), sent))
    for name, value in names_of(structure).items():
        np.testing.assert_array_equal(tf.cast(found[name], tf.float32), tf.cast(value, tf.float32))


def test_an_export_without_a_warm_up_prompt_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`warmup_prompts` must hold at least one text"):
        export_text_generation(generation(), tmp_path / "m", {}, [])
