"""SavedModels in their sessions: loading, running, warming up."""

import gc
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_seqattn.serving import ModelConfig, ModelRepository, RestApplication, ServingError
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.loading import saved_model_loader
from keras_seqattn.serving.models.servable import load_saved_model
from tests.serving.conftest import function, write_saved_model, write_scaling_model

HALF = np.float32([1, 2, 5])


def test_a_servable_runs_a_signature_by_names(models: Path) -> None:
    servable = load_saved_model(models / "half_plus_two" / "2")
    try:
        assert servable.signatures["serving_default"].inputs["x"].shape == (-1,)
        np.testing.assert_array_equal(servable.run("serving_default", {"x": HALF})["y"], [2.5, 3, 4.5])
        with pytest.raises(ServingError) as raised:
            servable.run("serving_default", {"z": HALF})
        assert raised.value.message == (
            "input size does not match signature: 1!=1 len({z}) != len({x}). Sent extra: {z}. "
            "Missing but required: {x}."
        )
        with pytest.raises(ServingError, match=r"Expects arg\[0\] to be float but string is provided"):
            servable.run("serving_default", {"x": np.array([b"x"], dtype=object)})
    finally:
        servable.close()


@pytest.mark.rule("grpc.output-filter")
def test_only_the_wanted_outputs_are_computed(tmp_path: Path) -> None:
    """Section 8: `output_filter`: only those outputs are run."""
    import tensorflow as tf

    def two(x: Any) -> dict[str, Any]:
        with tf.control_dependencies([tf.debugging.assert_positive(x, message="only positive numbers")]):
            root = tf.sqrt(x)
        return {"double": 2 * x, "root": root}

    folder = write_saved_model(tmp_path / "1", {"serving_default": function(two, x=([None], "float32"))})
    servable = load_saved_model(folder)
    answer = servable.run("serving_default", {"x": np.float32([4, 9])}, outputs=["root", "double"])
    assert {name: value.tolist() for name, value in answer.items()} == {"root": [2, 3], "double": [8, 18]}
    assert list(answer) == ["root", "double"]
    assert list(servable.run("serving_default", {"x": np.float32([4])}, outputs=["double"])) == ["double"]
    servable.close()


@pytest.mark.rule("grpc.deadline", "rest.timeout")
@pytest.mark.parametrize("timeout_seconds", [0.05, 0.0513])
def test_a_run_ends_at_its_own_timeout(models: Path, timeout_seconds: float) -> None:
    """Section 8: the client's deadline becomes the run timeout."""
    servable = load_saved_model(models / "many" / "1")
    servable.run("spin", {"steps": np.int64([1])}, timeout_seconds)
    started = time.monotonic()
    with pytest.raises(ServingError) as raised:
        servable.run("spin", {"steps": np.int64([10**12])}, timeout_seconds)
    assert raised.value.code == Code.DEADLINE_EXCEEDED
    assert time.monotonic() - started < 2
    servable.close()


def test_closing_frees_the_graph_without_the_garbage_collector(tmp_path: Path) -> None:
    servable = load_saved_model(write_scaling_model(tmp_path / "1", 2.0))
    servable.run("serving_default", {"x": HALF})
    num_ops = len(servable.graph.get_operations())
    graph = weakref.ref(servable.graph)
    gc.disable()
    try:
        servable.close()
        assert num_ops > 0
        assert graph() is None or not graph().get_operations()
        servable.close()  # twice does no harm
    finally:
        gc.enable()


def test_tables_and_variables_of_versions_do_not_mix(tmp_path: Path) -> None:
    import tensorflow as tf

    class Table(tf.Module):
        def __init__(self, value: int) -> None:
            super().__init__(name="table")
            keys = tf.lookup.KeyValueTensorInitializer(["a"], tf.constant([value], tf.int64))
            self.table = tf.lookup.StaticHashTable(keys, -1)
            self.offset = tf.Variable(10 * value, dtype=tf.int64)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="key")])
        def look_up(self, key: Any) -> dict[str, Any]:
            return {"value": self.table.lookup(key) + self.offset}

    servables = []
    for value in (3, 5):
        module = Table(value)
        tf.saved_model.save(module, str(tmp_path / str(value)), signatures=module.look_up)
        servables.append(load_saved_model(tmp_path / str(value)))
    keys = np.array([b"a", b"b"], dtype=object)
    assert [servable.run("serving_default", {"key": keys})["value"].tolist() for servable in servables] == [
        [33, 29],
        [55, 49],
    ]
    for servable in servables:
        servable.close()


def test_a_tensorflow_1_model_loads_alike(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        builder = v1.saved_model.builder.SavedModelBuilder(str(tmp_path / "1"))
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": x * 3.0})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    servable = load_saved_model(tmp_path / "1")
    assert servable.run("serving_default", {"x": HALF})["y"].tolist() == [3, 6, 15]
    servable.close()


def test_text_ops_are_known(tmp_path: Path) -> None:
    import tensorflow_text as text

    split = function(lambda x: {"y": text.normalize_utf8(x, "NFKC")}, x=([None], "string"))
    servable = load_saved_model(write_saved_model(tmp_path / "1", {"serving_default": split}))
    words = np.array(["ﬁ".encode()], dtype=object)
    assert servable.run("serving_default", {"x": words})["y"].tolist() == [b"fi"]
    servable.close()


def test_a_missing_op_is_named(tmp_path: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    write_scaling_model(tmp_path / "1", 2.0)
    file = tmp_path / "1" / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for definition in proto.meta_graphs[0].graph_def.library.function:
        for node in definition.node_def:
            if node.op == "Mul":
                node.op = "UnheardOf"
    file.write_bytes(proto.SerializeToString())
    with pytest.raises(ServingError, match=r"Op type not registered 'UnheardOf', which the model in .* uses") as raised:
        load_saved_model(tmp_path / "1")
    assert raised.value.code == Code.NOT_FOUND


@pytest.mark.rule("flags.tags")
def test_missing_files_and_tags_are_not_found(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"Could not find SavedModel .pb or .pbtxt at .*empty"):
        load_saved_model(tmp_path / "empty")
    write_scaling_model(tmp_path / "1", 2.0)
    with pytest.raises(ServingError, match=r"matching supplied tags: \{ serve gpu \}") as raised:
        load_saved_model(tmp_path / "1", ["serve", "gpu"])
    assert raised.value.code == Code.NOT_FOUND


def test_a_corrupt_file_does_not_load(tmp_path: Path) -> None:
    write_scaling_model(tmp_path / "1", 2.0)
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(ServingError):
        load_saved_model(tmp_path / "1")


@pytest.mark.rule("change.available", "versions.folders", "status.ended-versions")
def test_versions_roll_over_under_requests(tmp_path: Path) -> None:
    write_scaling_model(tmp_path / "m" / "1", 2.0)
    repository = ModelRepository([ModelConfig("m", str(tmp_path / "m"))], saved_model_loader())
    app = RestApplication(repository)
    repository.poll()
    post = lambda path: app.handle("POST", path, '{"inputs": 3}').body  # noqa: E731
    assert b"6.0" in post("/v1/models/m:predict")
    write_scaling_model(tmp_path / "m" / ".2", 7.0)
    repository.poll()
    assert b"6.0" in post("/v1/models/m:predict")
    (tmp_path / "m" / ".2").rename(tmp_path / "m" / "2")
    repository.poll()
    assert b"21.0" in post("/v1/models/m:predict")
    assert b"Specific(m, 1)" in post("/v1/models/m/versions/1:predict")
    assert b'"state": "END"' in app.handle("GET", "/v1/models/m/versions/1").body
    repository.close()


def warmup_file(folder: Path, *requests: tuple[str, Any], log_type: str = "predict_log", times: int = 1) -> None:
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    (folder / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for signature_name, value in requests * times:
            log = prediction_log_pb2.PredictionLog()
            getattr(log, log_type).SetInParent()
            if log_type == "predict_log":
                log.predict_log.request.model_spec.signature_name = signature_name
                log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())


def load(folder: Path) -> None:
    saved_model_loader()(str(folder)).close()


@pytest.mark.rule("warmup.kinds", "warmup.signature", "warmup.flags")
def test_warmup_requests_are_replayed_before_a_version_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from keras_seqattn.serving.models import servable

    seen = []
    run = servable.SavedModelServable.run

    def watch(self: Any, name: str, inputs: Any, *rest: Any) -> Any:
        seen.append((name, inputs["x"].tolist()))
        return run(self, name, inputs, *rest)

    monkeypatch.setattr(servable.SavedModelServable, "run", watch)
    folder = write_scaling_model(tmp_path / "1", 2.0)
    warmup_file(folder, ("", HALF), ("serving_default", HALF[:2]))
    load(folder)
    assert seen == [("serving_default", [1, 2, 5]), ("serving_default", [1, 2])]
    seen.clear()
    saved_model_loader(enable_warmup=False)(str(folder)).close()
    assert seen == []


@pytest.mark.rule("warmup.failures", "warmup.other-kinds")
@pytest.mark.parametrize(
    ("requests", "log_type", "times", "code"),
    [
        ([("unknown", HALF)], "predict_log", 1, Code.FAILED_PRECONDITION),
        ([("", np.int32([1]))], "predict_log", 1, Code.INVALID_ARGUMENT),
        ([("", HALF)], "session_run_log", 1, Code.UNIMPLEMENTED),
        ([("", HALF)], "predict_log", 1001, Code.INVALID_ARGUMENT),
    ],
)
def test_a_warmup_that_fails_makes_the_load_fail(
    tmp_path: Path, requests: list[Any], log_type: str, times: int, code: Code
) -> None:
    folder = write_scaling_model(tmp_path / "1", 2.0)
    warmup_file(folder, *requests, log_type=log_type, times=times)
    with pytest.raises(ServingError) as raised:
        load(folder)
    assert raised.value.code == code


@pytest.mark.rule("warmup.failures")
def test_a_warmup_file_that_is_no_tfrecord_is_data_loss(tmp_path: Path) -> None:
    folder = write_scaling_model(tmp_path / "1", 2.0)
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"not a record" * 7)
    with pytest.raises(ServingError) as raised:
        load(folder)
    assert raised.value.code == Code.DATA_LOSS
