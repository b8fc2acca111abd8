"""gRPC on loopback, asked by the official stubs: section 8 of the contract."""

import concurrent.futures
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from keras_seqattn.serving import ModelConfig, ModelRepository, ServingError, VersionPolicy
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.grpc.server import GrpcServer, parse_channel_arguments
from keras_seqattn.serving.loading import saved_model_loader
from keras_seqattn.serving.models.signature import Signature, TensorSpec
from keras_seqattn.serving.monitoring.record import RequestRecord
from tests.serving.conftest import DTYPES, write_scaling_model
from tests.serving.examples import CLASSIFY, REGRESS, example, write_examples_model

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
RECORDS: list[RequestRecord] = []


class Client:
    """The official stubs on a channel, with the messages in one place."""

    def __init__(self, channel: Any) -> None:
        from tensorflow_serving.apis import (
            classification_pb2,
            get_model_metadata_pb2,
            get_model_status_pb2,
            inference_pb2,
            model_management_pb2,
            model_service_pb2_grpc,
            predict_pb2,
            prediction_service_pb2_grpc,
            regression_pb2,
        )

        self.channel = channel
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)
        self.PredictRequest = predict_pb2.PredictRequest
        self.ClassificationRequest = classification_pb2.ClassificationRequest
        self.RegressionRequest = regression_pb2.RegressionRequest
        self.MultiInferenceRequest = inference_pb2.MultiInferenceRequest
        self.GetModelMetadataRequest = get_model_metadata_pb2.GetModelMetadataRequest
        self.SignatureDefMap = get_model_metadata_pb2.SignatureDefMap
        self.GetModelStatusRequest = get_model_status_pb2.GetModelStatusRequest
        self.ReloadConfigRequest = model_management_pb2.ReloadConfigRequest

    def predict_request(self, model: str, signature: str = "", /, **inputs: Any) -> Any:
        import tensorflow as tf

        request = self.PredictRequest(model_spec={"name": model, "signature_name": signature})
        for name, value in inputs.items():
            is_proto = hasattr(value, "tensor_shape")
            request.inputs[name].CopyFrom(value if is_proto else tf.make_tensor_proto(value))
        return request

    def predict(self, model: str, signature: str = "", /, **inputs: Any) -> dict[str, Any]:
        import tensorflow as tf

        response = self.prediction.Predict(self.predict_request(model, signature, **inputs), timeout=30)
        return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}


@pytest.fixture(scope="module")
def repository(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelRepository]:
    """Both versions of `half_plus_two`, `many`, and version 7 of `examples`."""
    examples = tmp_path_factory.mktemp("examples")
    write_examples_model(examples / "7")
    configs = [
        ModelConfig("half_plus_two", str(models / "half_plus_two"), VersionPolicy("all")),
        ModelConfig("many", str(models / "many")),
        ModelConfig("examples", str(examples)),
    ]
    repository = ModelRepository(configs, saved_model_loader(), max_num_load_retries=0)
    repository.poll()
    yield repository
    repository.close()


@pytest.fixture(scope="module")
def server(repository: ModelRepository) -> Iterator[GrpcServer]:
    server = GrpcServer(repository, max_threads=4, on_request=RECORDS.append)
    server.start()
    yield server
    server.stop(0)


@pytest.fixture(scope="module")
def client(server: GrpcServer) -> Iterator[Client]:
    with grpc.insecure_channel(server.target) as channel:
        yield Client(channel)


def fails(code: grpc.StatusCode, message: str, rpc: Any, request: Any, **options: Any) -> str:
    """The call fails with this code, and its text starts with `message`."""
    with pytest.raises(grpc.RpcError) as raised:
        rpc(request, timeout=options.pop("timeout", 30), **options)
    error: Any = raised.value
    assert error.code() == code, error
    details = str(error.details())
    assert details.startswith(message), details
    return details


# Predict.


@pytest.mark.rule("grpc.which-version", "grpc.spec-of-the-answer", "grpc.tensors-out")
def test_the_answer_names_model_version_and_signature(client: Client) -> None:
    """Contract 8: the version that was used, never the label; the signature with its default filled in; an unset
    version is the highest one."""
    response = client.prediction.Predict(client.predict_request("half_plus_two", x=np.float32([1, 2])))
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("half_plus_two", 123, "serving_default")
    assert spec.WhichOneof("version_choice") == "version"
    assert list(response.outputs) == ["y"]
    assert list(response.outputs["y"].float_val) == [2.5, 3.0]
    assert not response.outputs["y"].tensor_content


@pytest.mark.rule("grpc.which-version", "error.unknown-model-or-version")
def test_a_version_is_chosen(client: Client) -> None:
    request = client.predict_request("half_plus_two", x=np.float32([1]))
    request.model_spec.version.value = 2
    assert client.prediction.Predict(request).model_spec.version.value == 2
    request.model_spec.version.value = 3
    fails(NOT_FOUND, "Servable not found for request: Specific(half_plus_two, 3)", client.prediction.Predict, request)


@pytest.mark.rule("error.unknown-label", "error.unknown-model-or-version")
def test_an_unknown_model_or_label(client: Client) -> None:
    """Contract 2: the label's error comes also for an unknown model."""
    request = client.predict_request("nobody", x=np.float32([1]))
    fails(NOT_FOUND, "Servable not found for request: Latest(nobody)", client.prediction.Predict, request)
    for name in ("nobody", "half_plus_two"):
        request.model_spec.name, request.model_spec.version_label = name, "canary"
        fails(INVALID, "Unrecognized servable version label: canary", client.prediction.Predict, request)


@pytest.mark.rule("grpc.missing-spec")
def test_a_missing_spec_or_name(client: Client) -> None:
    """Contract 8."""
    for rpc, request in (
        (client.prediction.Predict, client.PredictRequest()),
        (client.prediction.Classify, client.ClassificationRequest()),
        (client.prediction.Regress, client.RegressionRequest()),
        (client.prediction.GetModelMetadata, client.GetModelMetadataRequest()),
        (client.models.GetModelStatus, client.GetModelStatusRequest()),
    ):
        fails(INVALID, "Missing ModelSpec", rpc, request)
    for rpc, request in (
        (client.prediction.Predict, client.PredictRequest(model_spec={})),
        (client.prediction.Classify, client.ClassificationRequest(model_spec={})),
        (client.prediction.Regress, client.RegressionRequest(model_spec={})),
        (client.prediction.MultiInference, client.MultiInferenceRequest()),
        (client.prediction.MultiInference, client.MultiInferenceRequest(tasks=[{}])),
    ):
        fails(INVALID, "ModelSpec has no name specified.", rpc, request)


@pytest.mark.rule("error.unknown-signature")
def test_an_unknown_signature(client: Client) -> None:
    """Contract 2: FAILED_PRECONDITION for Predict, INVALID_ARGUMENT for the others."""
    request = client.predict_request("many", "s", x=1.0)
    fails(
        grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "s" not found.', client.prediction.Predict, request
    )


def test_several_inputs_and_outputs(client: Client) -> None:
    outputs = client.predict(
        "many", "several", a=np.float32([[1, 2], [3, 4]]), b=np.int32([5, 6]), s=np.array([b"x", "é".encode()], object)
    )
    np.testing.assert_array_equal(outputs["total"], [3, 7])
    np.testing.assert_array_equal(outputs["next"], [6, 7])
    np.testing.assert_array_equal(outputs["text"], [b"X", "é".encode()])


@pytest.mark.rule("grpc.every-dtype")
@pytest.mark.parametrize("name", DTYPES.values())
def test_every_dtype_passes_through(client: Client, name: str) -> None:
    """Contract 8: all dtypes work."""
    sent = np.array([[b"a", b"\xff"]], object) if name == "string" else np.array([[0, 1]]).astype(name)
    got = client.predict("many", f"same_{name}", x=sent)["y"]
    assert got.dtype == sent.dtype
    np.testing.assert_array_equal(got, sent)


def test_a_signature_without_inputs(client: Client) -> None:
    assert client.predict("many", "nothing")["y"] == [7.0]


@pytest.mark.rule("grpc.every-dtype")
def test_halves_which_json_cannot_hold(client: Client) -> None:
    assert client.predict("many", "halves", x=np.float32([0.5]))["y"].dtype == np.float16
    np.testing.assert_array_equal(client.predict("many", "from_halves", x=np.float16([0.5, 2]))["y"], [0.5, 2])


@pytest.mark.rule("grpc.tensors-in")
def test_short_tensors_repeat_their_last_value(client: Client) -> None:
    """Contract 8: and an empty one is zeros."""
    from tensorflow.core.framework import tensor_pb2, types_pb2

    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape={"dim": [{"size": 3}]}, float_val=[2, 4])
    np.testing.assert_array_equal(client.predict("half_plus_two", x=proto)["y"], [3, 4, 4])
    del proto.float_val[:]
    np.testing.assert_array_equal(client.predict("half_plus_two", x=proto)["y"], [2, 2, 2])


@pytest.mark.rule("grpc.unreadable-tensors")
def test_a_huge_declared_tensor_is_refused_at_once(client: Client) -> None:
    from tensorflow.core.framework import tensor_pb2, types_pb2

    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape={"dim": [{"size": 2**40}]}, float_val=[1])
    started = time.monotonic()
    fails(INVALID, "tensor parsing error: x", client.prediction.Predict, client.predict_request("many", x=proto))
    assert time.monotonic() - started < 1


@pytest.mark.rule("grpc.names-of-inputs")
def test_the_names_of_inputs_are_checked(client: Client) -> None:
    """Contract 8: their number, then their names."""
    one = np.float32([1])
    fails(
        INVALID,
        "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. Missing but required: {}.",
        client.prediction.Predict,
        client.predict_request("half_plus_two", x=one, z=one),
    )
    fails(
        INVALID,
        "input size does not match signature: 1!=2 len({z}) != len({a,b}). Sent extra: {z}. "
        "Missing but required: {a,b}.",
        client.prediction.Predict,
        client.predict_request("many", "add", z=one),
    )
    details = fails(
        INVALID,
        "Signature input alias: x(feed name: ",
        client.prediction.Predict,
        client.predict_request("half_plus_two", z=one),
    )
    assert "not found in request and no default value provided" in details


@pytest.mark.rule("grpc.defaults-of-inputs")
def test_defaults_of_the_signature_stand_in_for_missing_inputs(client: Client) -> None:
    """Contract 8: unless the signature has defaults for the missing ones."""
    one = np.array([example(x=2.0).SerializeToString()], object)
    assert client.predict("examples", "with_default", inputs=one)["outputs"].tolist() == [3.0]
    fails(
        INVALID,
        "Signature input alias: inputs(feed name: serialized:0) not found in request and no default value provided. "
        "Inputs expected to be in the request {}, or default input alias set: second",
        client.prediction.Predict,
        client.predict_request("examples", "with_default"),
    )
    fails(
        INVALID,
        "Signature input alias: inputs",
        client.prediction.Predict,
        client.predict_request("examples", "with_default", z=one),
    )


@pytest.mark.rule("grpc.dtypes-of-inputs", "predict.shape-of-the-signature")
def test_dtypes_are_checked_and_shapes_are_not(client: Client) -> None:
    """Contract 8 and 4."""
    fails(
        INVALID,
        "Expects arg[0] to be float but string is provided",
        client.prediction.Predict,
        client.predict_request("half_plus_two", x=["a"]),
    )
    np.testing.assert_array_equal(client.predict("half_plus_two", x=np.float32([[2]]))["y"], [[3]])


@pytest.mark.rule("error.of-ops")
def test_errors_of_ops_keep_their_text(client: Client) -> None:
    request = client.predict_request("many", "pick", i=np.int32([9]))
    assert "indices[0] = 9 is not in [0, 3)" in fails(INVALID, "", client.prediction.Predict, request)


@pytest.mark.rule("grpc.long-errors")
def test_long_errors_are_cut(client: Client) -> None:
    """Contract 8: longer than 1024 bytes, they end in `...TRUNCATED`."""
    request = client.predict_request("many", "s" * 3000, x=1.0)
    details = fails(grpc.StatusCode.FAILED_PRECONDITION, "Serving", client.prediction.Predict, request)
    assert details == 'Serving signature key "' + "s" * (1024 - 23) + "...TRUNCATED"
    request = client.predict_request("many", "é" * 1000, x=1.0)
    details = fails(grpc.StatusCode.FAILED_PRECONDITION, "Serving", client.prediction.Predict, request)
    assert details == 'Serving signature key "' + "é" * 500 + "...TRUNCATED"
    request = client.predict_request("n" * (1024 - 40), x=1.0)
    details = fails(NOT_FOUND, "Servable", client.prediction.Predict, request)
    assert len(details) == 1024
    assert details.endswith("n)")


@pytest.mark.rule("grpc.output-filter")
def test_output_filter(client: Client) -> None:
    """Contract 8: only those outputs are run; unknown or repeated ones are INVALID_ARGUMENT."""
    inputs = {"a": np.float32([[1, 2]]), "b": np.int32([5]), "s": np.array([b"x"], object)}
    request = client.predict_request("many", "several", **inputs)
    request.output_filter.extend(["text", "next"])
    response = client.prediction.Predict(request)
    assert sorted(response.outputs) == ["next", "text"]
    assert list(response.outputs["text"].string_val) == [b"X"]
    request.output_filter.append("next")
    fails(INVALID, "duplicate output tensor alias: next", client.prediction.Predict, request)
    request.output_filter[:] = ["z"]
    fails(
        INVALID,
        "output tensor alias not found in signature: z Outputs expected to be in the set {next,text,total}.",
        client.prediction.Predict,
        request,
    )


@pytest.mark.rule("grpc.message-size")
def test_large_tensors_pass(client: Client) -> None:
    """Contract 8: the server takes messages beyond gRPC's 4 MiB; clients keep their limit for answers."""
    large = np.zeros(2_000_000, np.float32)
    request = client.predict_request("many", "total", x=large)
    assert request.ByteSize() > 4 * 2**20
    assert client.predict("many", "total", x=large)["y"] == 0
    request = client.predict_request("half_plus_two", x=large)
    details = fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "", client.prediction.Predict, request)
    assert "larger than max" in details
    with grpc.insecure_channel(str(client_target(client)), [("grpc.max_receive_message_length", -1)]) as channel:
        assert Client(channel).predict("half_plus_two", x=large)["y"].shape == (2_000_000,)


def client_target(client: Client) -> str:
    return client.channel._channel.target().decode().removeprefix("dns:///").removeprefix("ipv4:")


# Deadlines and cancelled calls.


def wait_for_record(condition: Any) -> RequestRecord:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for record in RECORDS:
            if condition(record):
                return record
        time.sleep(0.01)
    raise AssertionError(RECORDS)


@pytest.mark.rule("grpc.deadline")
def test_the_deadline_becomes_the_timeout_of_the_run(client: Client) -> None:
    """Contract 8: the run itself ends, which the record shows; the client would not."""
    RECORDS.clear()
    request = client.predict_request("many", "spin", steps=np.int64([10**12]))
    fails(grpc.StatusCode.DEADLINE_EXCEEDED, "", client.prediction.Predict, request, timeout=0.3)
    record = wait_for_record(lambda each: each.api == "Predict")
    assert record.code == Code.DEADLINE_EXCEEDED
    assert 0.2 < record.seconds < 5


class Gate:
    """A servable that waits until it is let go, and counts its runs."""

    signatures: Mapping[str, Signature] = {
        "serving_default": Signature({"x": TensorSpec("x:0", "float", None)}, {"y": TensorSpec("y:0", "float", None)})
    }
    signature_defs: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.open, self.entered = threading.Event(), threading.Semaphore(0)
        self.timeouts: list[float | None] = []

    def run(
        self, name: str, inputs: Mapping[str, Any], timeout_seconds: float | None = None, outputs: Any = None
    ) -> dict[str, Any]:
        self.timeouts.append(timeout_seconds)
        self.entered.release()
        assert self.open.wait(20)
        return {"y": inputs["x"]}

    def close(self) -> None:
        pass


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[tuple[Gate, ModelRepository]]:
    (tmp_path / "m" / "1").mkdir(parents=True)
    gate = Gate()
    repository = ModelRepository([ModelConfig("m", str(tmp_path / "m"))], lambda path, name: gate)
    repository.poll()
    yield gate, repository
    gate.open.set()
    repository.close()


def test_what_nobody_waits_for_is_not_computed(gate: tuple[Gate, ModelRepository]) -> None:
    """Calls that wait for a thread while their deadline passes, or while they are cancelled."""
    servable, repository = gate
    records: list[RequestRecord] = []
    server = GrpcServer(repository, max_threads=1, on_request=records.append)
    server.start()
    with grpc.insecure_channel(server.target) as channel:
        client = Client(channel)
        request = client.predict_request("m", x=np.float32([1]))
        first = client.prediction.Predict.future(request)
        assert servable.entered.acquire(timeout=10)
        late = client.prediction.Predict.future(request, timeout=0.1)
        cancelled = client.prediction.Predict.future(request)
        time.sleep(0.3)
        cancelled.cancel()
        assert late.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        time.sleep(0.1)
        servable.open.set()
        assert first.result(10).outputs["y"].float_val == [1]
        assert client.prediction.Predict(request).outputs["y"].float_val == [1]
    server.stop(0)
    assert servable.timeouts == [None, None]
    # gRPC may leave out a call that was over before a thread saw it.
    assert {each.code for each in records} <= {Code.OK, Code.DEADLINE_EXCEEDED, Code.CANCELLED}
    assert [each.code for each in records].count(Code.OK) == 2


@pytest.mark.rule("grpc.deadline")
def test_a_run_gets_the_time_that_is_left(gate: tuple[Gate, ModelRepository]) -> None:
    servable, repository = gate
    servable.open.set()
    server = GrpcServer(repository)
    server.start()
    with grpc.insecure_channel(server.target) as channel:
        client = Client(channel)
        request = client.predict_request("m", x=np.float32([1]))
        for timeout in (20, 5, 1e9, None):
            client.prediction.Predict(request, timeout=timeout)
    server.stop(0)
    first, second, *endless = servable.timeouts
    assert first is not None
    assert second is not None
    assert 19 < first < 20.3  # gRPC sends three digits, rounded up
    assert 4 < second < 5.1
    assert endless == [None, None]


@pytest.mark.rule("flags.threads")
def test_beyond_the_limit_calls_fail_at_once(gate: tuple[Gate, ModelRepository]) -> None:
    servable, repository = gate
    server = GrpcServer(repository, max_threads=1, max_pending_calls=1)
    server.start()
    with grpc.insecure_channel(server.target) as channel:
        client = Client(channel)
        request = client.predict_request("m", x=np.float32([1]))
        running = client.prediction.Predict.future(request)
        assert servable.entered.acquire(timeout=10)
        waiting = client.prediction.Predict.future(request)
        time.sleep(0.2)
        started = time.monotonic()
        fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "", client.prediction.Predict, request)
        assert time.monotonic() - started < 1
        servable.open.set()
        assert running.result(10) == waiting.result(10)
    server.stop(0)


def test_stopping_answers_what_is_under_way(gate: tuple[Gate, ModelRepository]) -> None:
    servable, repository = gate
    server = GrpcServer(repository)
    server.start()
    with grpc.insecure_channel(server.target) as channel, concurrent.futures.ThreadPoolExecutor(1) as threads:
        client = Client(channel)
        request = client.predict_request("m", x=np.float32([1]))
        running = client.prediction.Predict.future(request)
        assert servable.entered.acquire(timeout=10)
        stopping = threads.submit(server.stop, 20)
        time.sleep(0.2)
        assert not stopping.done()
        fails(grpc.StatusCode.UNAVAILABLE, "", client.prediction.Predict, request, timeout=5)
        servable.open.set()
        assert running.result(10).outputs["y"].float_val == [1]
        stopping.result(10)


# Classify, Regress, MultiInference.


def examples_input(*examples: Any, context: Any = None) -> dict[str, Any]:
    if context is None:
        return {"example_list": {"examples": examples}}
    return {"example_list_with_context": {"examples": examples, "context": context}}


@pytest.mark.rule("grpc.services", "grpc.spec-of-the-answer", "classify.outputs")
def test_classify(client: Client) -> None:
    """Contract 6 and 8."""
    request = client.ClassificationRequest(
        model_spec={"name": "examples", "signature_name": "classify"},
        input=examples_input(example(x=2.0, name=b"a"), example(x=4.0, name="é".encode())),
    )
    response = client.prediction.Classify(request)
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("examples", 7, "classify")
    assert [
        [(each.label, each.score) for each in classifications.classes]
        for classifications in response.result.classifications
    ] == [[("a", 3.0), ("other", -3.0)], [("é", 4.0), ("other", -4.0)]]


@pytest.mark.rule("examples.context")
def test_the_context_is_merged_into_each_example(client: Client) -> None:
    """Contract 6: by concatenating the serialized protos; the example's feature wins."""
    request = client.ClassificationRequest(
        model_spec={"name": "examples", "signature_name": "classes_only"},
        input=examples_input(example(x=2.0), example(x=2.0, name=b"own"), context=example(name=b"context")),
    )
    response = client.prediction.Classify(request)
    assert [each.classes[0].label for each in response.result.classifications] == ["context", "own"]
    assert response.result.classifications[0].classes[0].score == 0.0


@pytest.mark.rule("grpc.services", "grpc.spec-of-the-answer", "regress.outputs")
def test_regress(client: Client) -> None:
    """Contract 6 and 8: serving_default when no signature is named."""
    request = client.RegressionRequest(
        model_spec={"name": "examples"}, input=examples_input(example(x=2.0), example(x=4.0))
    )
    response = client.prediction.Regress(request)
    assert [each.value for each in response.result.regressions] == [3.0, 4.0]
    assert response.model_spec.signature_name == "serving_default"


@pytest.mark.rule("grpc.empty-input", "examples.signatures", "error.unknown-signature")
def test_classify_and_regress_errors(client: Client) -> None:
    """Contract 6, with the codes that REST cannot tell apart, and contract 8: `Input is empty.`"""
    one = examples_input(example(x=2.0))
    classify = client.prediction.Classify, client.ClassificationRequest
    regress = client.prediction.Regress, client.RegressionRequest
    precondition = grpc.StatusCode.FAILED_PRECONDITION
    for (rpc, message), signature, code, text in (
        (classify, "s", INVALID, "No signature was found with the name: s"),
        (regress, "s", INVALID, "No signature was found with the name: s"),
        (classify, "two_inputs", INVALID, "Expected one input Tensor."),
        (classify, "other_input_of_classes", precondition, "No classification inputs found in SignatureDef: "),
        (regress, "other_output", precondition, "No regression outputs found in SignatureDef: "),
        (regress, "wide", INVALID, "Expected output Tensor shape to be either [batch_size] or [batch_size, 1]"),
    ):
        fails(code, text, rpc, message(model_spec={"name": "examples", "signature_name": signature}, input=one))
    for rpc, message in (classify, regress):
        for empty in ({}, examples_input(), examples_input(context=example(x=2.0))):
            signature = "classify" if "Classification" in message.DESCRIPTOR.name else "regress"
            request = message(model_spec={"name": "examples", "signature_name": signature}, input=empty)
            fails(INVALID, "Input is empty.", rpc, request)
        fails(NOT_FOUND, "Servable not found", rpc, message(model_spec={"name": "nobody"}, input=one))


def task(signature: str, method: str, model: str = "examples") -> dict[str, Any]:
    return {"model_spec": {"name": model, "signature_name": signature}, "method_name": method}


@pytest.mark.rule("grpc.multi-inference", "grpc.services")
def test_multi_inference(client: Client) -> None:
    """Contract 8: several signatures of one model about one Input."""
    request = client.MultiInferenceRequest(
        tasks=[task("classify", CLASSIFY), task("", REGRESS)], input=examples_input(example(x=2.0, name=b"a"))
    )
    first, second = client.prediction.MultiInference(request).results
    assert [(each.label, each.score) for each in first.classification_result.classifications[0].classes] == [
        ("a", 3.0),
        ("other", -3.0),
    ]
    assert [each.value for each in second.regression_result.regressions] == [3.0]
    assert (first.model_spec.signature_name, first.model_spec.version.value) == ("classify", 7)
    assert (second.model_spec.signature_name, second.model_spec.name) == ("serving_default", "examples")


@pytest.mark.rule("grpc.multi-inference-errors", "error.unknown-model-or-version")
@pytest.mark.parametrize(
    ("tasks", "code", "message"),
    [
        (
            [task("", REGRESS), task("serving_default", REGRESS)],
            INVALID,
            "Duplicate evaluation of signature: serving_default",
        ),
        (
            [task("", REGRESS), task("classify", CLASSIFY, "many")],
            INVALID,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        ([task("", REGRESS), task("x", REGRESS, "")], INVALID, "Found ModelSpec with an empty model name."),
        ([task("s", REGRESS)], INVALID, "Requested signature not found in model graph: s"),
        (
            [task("", "tensorflow/serving/predict")],
            grpc.StatusCode.UNIMPLEMENTED,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        (
            [task("", REGRESS), task("by_second", REGRESS)],
            INVALID,
            "Input tensor must be the same for all Signatures.",
        ),
        ([task("", REGRESS, "nobody")], NOT_FOUND, "Servable not found for request: Latest(nobody)"),
    ],
)
def test_multi_inference_errors(client: Client, tasks: list[Any], code: grpc.StatusCode, message: str) -> None:
    """Contract 8."""
    request = client.MultiInferenceRequest(tasks=tasks, input=examples_input(example(x=2.0)))
    fails(code, message, client.prediction.MultiInference, request)


@pytest.mark.rule("grpc.empty-input")
def test_multi_inference_needs_examples(client: Client) -> None:
    request = client.MultiInferenceRequest(tasks=[task("", REGRESS)])
    fails(INVALID, "Input is empty.", client.prediction.MultiInference, request)


@pytest.mark.rule("predict.any-signature")
def test_predict_takes_examples_as_tfx_sends_them(client: Client) -> None:
    """TensorFlow Extended's requests: a string tensor of serialized Examples for the input `examples`."""
    serialized = [example(x=2.0).SerializeToString(), example(x=4.0).SerializeToString()]
    np.testing.assert_array_equal(client.predict("examples", "examples", examples=serialized)["y"], [3, 4])


# Metadata and status.


@pytest.mark.rule("grpc.services", "metadata.every-signature")
def test_metadata(client: Client) -> None:
    """Contract 7 and 8: all signatures, under the field that was asked for."""
    request = client.GetModelMetadataRequest(model_spec={"name": "half_plus_two"}, metadata_field=["signature_def"])
    response = client.prediction.GetModelMetadata(request)
    assert (response.model_spec.name, response.model_spec.version.value) == ("half_plus_two", 123)
    assert response.model_spec.signature_name == ""
    signatures = client.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert sorted(signatures.signature_def) == ["__saved_model_init_op", "serving_default"]
    assert signatures.signature_def["serving_default"].inputs["x"].tensor_shape.dim[0].size == -1


@pytest.mark.rule("grpc.metadata-field", "metadata.unknown")
def test_metadata_errors(client: Client) -> None:
    """Contract 8: a field must be named, and there is one; both before the model is looked up."""
    metadata = client.prediction.GetModelMetadata
    request = client.GetModelMetadataRequest(model_spec={"name": "nobody"})
    fails(INVALID, "GetModelMetadataRequest must specify at least one metadata_field", metadata, request)
    request.metadata_field.extend(["signature_def", "other"])
    assert "other" in fails(INVALID, "Metadata field ", metadata, request)
    del request.metadata_field[1]
    fails(NOT_FOUND, "Servable not found for request: Latest(nobody)", metadata, request)


@pytest.mark.rule("grpc.services", "status.newest-first", "status.labels", "status.unknown")
def test_status(client: Client) -> None:
    """Contract 7: newest first; a label is ignored."""
    request = client.GetModelStatusRequest(model_spec={"name": "half_plus_two"})
    every = client.models.GetModelStatus(request).model_version_status
    assert [(each.version, each.State.Name(each.state)) for each in every] == [(123, "AVAILABLE"), (2, "AVAILABLE")]
    request.model_spec.version_label = "nowhere"
    assert client.models.GetModelStatus(request).model_version_status == every
    request.model_spec.version.value = 2
    assert [each.version for each in client.models.GetModelStatus(request).model_version_status] == [2]
    request.model_spec.version.value = 7
    status = client.models.GetModelStatus
    fails(NOT_FOUND, "Could not find version 7 of model half_plus_two", status, request)
    request = client.GetModelStatusRequest(model_spec={"name": "nobody"})
    fails(NOT_FOUND, "Could not find any versions of model nobody", status, request)


# Reload.


@pytest.mark.rule("reload.replaces")
def test_reload_is_off(client: Client) -> None:
    request = client.ReloadConfigRequest(config={"model_config_list": {}})
    details = fails(grpc.StatusCode.PERMISSION_DENIED, "", client.models.HandleReloadConfigRequest, request)
    assert "is off" in details


@pytest.mark.rule("reload.replaces", "reload.waits", "reload.errors", "reload.lists-only", "config.absolute-paths")
def test_reload_replaces_the_models(tmp_path: Path) -> None:
    """Contract 11: it returns once the new models are available; left-out ones are unloaded; only lists are taken."""
    for name, scale in (("old", 2.0), ("new", 3.0)):
        write_scaling_model(tmp_path / name / "1", scale)
    repository = ModelRepository([ModelConfig("old", str(tmp_path / "old"))], saved_model_loader())
    repository.poll()
    server = GrpcServer(repository, enable_reload=True)
    server.start()
    with grpc.insecure_channel(server.target) as channel:
        client = Client(channel)
        reload = client.models.HandleReloadConfigRequest
        entry = {"name": "new", "base_path": str(tmp_path / "new"), "model_platform": "tensorflow"}
        response = reload(client.ReloadConfigRequest(config={"model_config_list": {"config": [entry]}}), timeout=60)
        assert response.status.error_code == 0
        assert client.predict("new", x=np.float32([1]))["y"] == [3.0]
        fails(
            NOT_FOUND, "Servable not found", client.prediction.Predict, client.predict_request("old", x=np.float32([1]))
        )
        bad = client.ReloadConfigRequest(config={"model_config_list": {"config": [{**entry, "base_path": "new"}]}})
        fails(INVALID, "Expected model new to have an absolute path or URI", reload, bad)
        for config in ({}, {"custom_model_config": {}}):
            details = fails(
                INVALID, "ServerModelConfig type not supported", reload, client.ReloadConfigRequest(config=config)
            )
            assert "Only ModelConfigList is currently supported" in details
    server.stop(0)
    repository.close()


@pytest.mark.rule("grpc.which-version", "grpc.spec-of-the-answer", "labels.available-versions", "reload.errors")
def test_a_label_is_asked_for_and_moved(tmp_path: Path) -> None:
    """Contract 8: the answer names the version, never the label; contract 11: a reload moves a label, to versions that
    are available only."""
    for version, scale in (("1", 2.0), ("2", 3.0)):
        write_scaling_model(tmp_path / version, scale)
    repository = ModelRepository([ModelConfig("m", str(tmp_path), VersionPolicy("all"))], saved_model_loader())
    repository.poll()
    server = GrpcServer(repository, enable_reload=True)
    server.start()
    with grpc.insecure_channel(server.target) as channel:
        client = Client(channel)
        reload = client.models.HandleReloadConfigRequest

        def config(label: int) -> Any:
            entry = {
                "name": "m",
                "base_path": str(tmp_path),
                "model_platform": "tensorflow",
                "model_version_policy": {"all": {}},
                "version_labels": {"canary": label},
            }
            return client.ReloadConfigRequest(config={"model_config_list": {"config": [entry]}})

        request = client.predict_request("m", x=np.float32([1]))
        request.model_spec.version_label = "canary"
        for version in (1, 2):
            reload(config(version), timeout=60)
            response = client.prediction.Predict(request)
            assert response.outputs["y"].float_val == [version + 1.0]
            assert response.model_spec.version.value == version
            assert response.model_spec.WhichOneof("version_choice") == "version"
        fails(
            grpc.StatusCode.FAILED_PRECONDITION,
            "Request to assign label to version 3 of model m, which is not currently available for inference",
            reload,
            config(3),
        )
        assert client.prediction.Predict(request).model_spec.version.value == 2
    server.stop(0)
    repository.close()


# The server itself.


def test_each_call_leaves_a_record(client: Client) -> None:
    RECORDS.clear()
    request = client.predict_request("half_plus_two", x=np.float32([1, 2, 3]))
    response = client.prediction.Predict(request)
    request = client.predict_request("half_plus_two", "s", x=np.float32([1, 2, 3]))
    fails(grpc.StatusCode.FAILED_PRECONDITION, "", client.prediction.Predict, request)
    client.models.GetModelStatus(client.GetModelStatusRequest(model_spec={"name": "many"}))
    first, second, third = RECORDS
    assert (first.entrypoint, first.api, first.model, first.version) == ("GRPC", "Predict", "half_plus_two", 123)
    assert (first.signature, first.num_examples, first.code) == ("serving_default", 3, Code.OK)
    assert first.bytes_out == response.ByteSize()
    assert first.peer.startswith("127.0.0.1:")
    assert (second.signature, second.code, second.bytes_out) == ("s", Code.FAILED_PRECONDITION, 0)
    assert (third.api, third.model) == ("GetModelStatus", "many")


def test_bytes_that_are_no_message_are_refused(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    for method in ("PredictionService/Predict", "PredictionService/Classify", "ModelService/GetModelStatus"):
        rpc = client.channel.unary_unary(f"/tensorflow.serving.{method}")
        fails(grpc.StatusCode.INTERNAL, "The message is no ", rpc, b"\xff\xff\xff")
    assert not caplog.records  # clients must not fill the log
    rpc = client.channel.unary_unary("/tensorflow.serving.PredictionService/PredictStreamed")
    fails(grpc.StatusCode.UNIMPLEMENTED, "", rpc, b"")


def test_many_clients_get_their_own_answers(client: Client) -> None:
    def one(value: int) -> bool:
        return client.predict("half_plus_two", x=np.float32([value]))["y"].tolist() == [value / 2 + 2]

    with concurrent.futures.ThreadPoolExecutor(13) as threads:
        assert all(threads.map(one, range(101)))


@pytest.mark.rule("grpc.tensors-out")
def test_outputs_as_tensor_content(repository: ModelRepository) -> None:
    """Contract 8: `--enable_serialization_as_tensor_content`."""
    server = GrpcServer(repository, tensor_content=True)
    server.start()
    with grpc.insecure_channel(server.target) as channel:
        client = Client(channel)
        response = client.prediction.Predict(client.predict_request("half_plus_two", x=np.float32([2])))
        assert response.outputs["y"].tensor_content == np.float32([3]).tobytes()
        assert not response.outputs["y"].float_val
    server.stop(0)


@pytest.mark.rule("examples.method-names")
def test_method_names_are_checked_by_option(repository: ModelRepository) -> None:
    server = GrpcServer(repository, check_method_names=True)
    server.start()
    with grpc.insecure_channel(server.target) as channel:
        client = Client(channel)
        serialized = [example(x=2.0).SerializeToString()]
        request = client.predict_request("examples", "regress_flat", inputs=serialized)
        fails(grpc.StatusCode.INTERNAL, "Expected prediction signature method_name", client.prediction.Predict, request)
        request = client.predict_request("examples", "regress", inputs=serialized)
        assert client.prediction.Predict(request).outputs["outputs"].float_val == [3.0]
        request = client.MultiInferenceRequest(tasks=[task("regress_flat", REGRESS)])
        fails(INVALID, "Expected regression signature method_name", client.prediction.MultiInference, request)
    server.stop(0)


@pytest.mark.rule("flags.grpc-socket")
def test_a_unix_socket(repository: ModelRepository, tmp_path: Path) -> None:
    """Contract 10: `--grpc_socket_path`, with or without a port."""
    path = tmp_path / "s"
    for port in (None, 0):
        server = GrpcServer(repository, port=port, socket_path=path)
        server.start()
        assert (server.port is None) == (port is None)
        with grpc.insecure_channel(f"unix:{path}") as channel:
            assert Client(channel).predict("half_plus_two", x=np.float32([2]))["y"] == [3.0]
        server.stop(0)
    with pytest.raises(ValueError, match="a port or on a Unix socket"):
        GrpcServer(repository, port=None)


def test_a_taken_port_is_said_before_anything_is_loaded(server: GrpcServer, repository: ModelRepository) -> None:
    with pytest.raises(OSError, match=rf"Cannot listen on 127\.0\.0\.1, port {server.port}"):
        GrpcServer(repository, port=server.port)


@pytest.mark.rule("start.waits")
def test_it_listens_only_once_it_can_answer(repository: ModelRepository) -> None:
    """Contract 11: the ports open after the models are loaded."""
    server = GrpcServer(repository)
    assert server.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)
    server.start()
    socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
    server.stop(0)
    server = GrpcServer(repository)
    server.stop()  # before it started


@pytest.mark.rule("flags.grpc-channel-arguments")
def test_channel_arguments() -> None:
    """Contract 10: `--grpc_channel_arguments`, k=v,k=v."""
    assert parse_channel_arguments("") == {}
    assert parse_channel_arguments("grpc.max_connection_age_ms=5000,a=b=c") == {
        "grpc.max_connection_age_ms": 5000,
        "a": "b=c",
    }
    with pytest.raises(ServingError, match="key=value"):
        parse_channel_arguments("grpc.max_connection_age_ms")


@pytest.mark.rule("flags.grpc-channel-arguments")
def test_channel_arguments_win(repository: ModelRepository) -> None:
    server = GrpcServer(repository, channel_arguments={"grpc.max_receive_message_length": 1000})
    server.start()
    with grpc.insecure_channel(server.target) as channel:
        client = Client(channel)
        assert client.predict("half_plus_two", x=np.float32([2]))["y"] == [3.0]
        request = client.predict_request("half_plus_two", x=np.zeros(1000, np.float32))
        fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "", client.prediction.Predict, request)
    server.stop(0)


@pytest.mark.rule("grpc.health")
def test_health(repository: ModelRepository) -> None:
    """Contract 8: services `ModelService` and `PredictionService`, by option."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    server = GrpcServer(repository, enable_health=True)
    server.start()
    with grpc.insecure_channel(server.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "ModelService", "PredictionService"):
            assert stub.Check(health_pb2.HealthCheckRequest(service=service)).status == 1
        fails(NOT_FOUND, "", stub.Check, health_pb2.HealthCheckRequest(service="x"))
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="ModelService"))
        assert next(watch).status == 1
        stopping = threading.Thread(target=server.stop, args=(0.5,))
        stopping.start()
        assert next(watch).status == 2  # NOT_SERVING, before the port closes
        stopping.join()


@pytest.mark.rule("grpc.health", "grpc.no-reflection")
def test_health_and_reflection_are_off_by_default(client: Client) -> None:
    """Contract 8: health only by flag, no reflection."""
    for service in ("grpc.health.v1.Health/Check", "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"):
        fails(grpc.StatusCode.UNIMPLEMENTED, "", client.channel.unary_unary(f"/{service}"), b"")


@pytest.mark.rule("grpc.no-reflection", "grpc.services")
def test_reflection(repository: ModelRepository) -> None:
    from google.protobuf import descriptor_pb2
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    server = GrpcServer(repository, enable_health=True, enable_reflection=True)
    server.start()
    with grpc.insecure_channel(server.target) as channel:
        ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        (listed,) = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        names = {service.name for service in listed.list_services_response.service}
        assert {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"} < names
        assert "grpc.health.v1.Health" in names
        symbol = reflection_pb2.ServerReflectionRequest(file_containing_symbol="tensorflow.serving.PredictionService")
        (found,) = ask(iter([symbol]))
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(each)
            for each in found.file_descriptor_response.file_descriptor_proto
        ]
        methods = {method.name for file in files for service in file.service for method in service.method}
        assert methods == {"Classify", "Regress", "Predict", "MultiInference", "GetModelMetadata"}
    server.stop(0)
