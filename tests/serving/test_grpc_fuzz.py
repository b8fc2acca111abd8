"""Broken and odd messages for each RPC: always one of the contract's codes, never an error of the server's own."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_seqattn.serving import ModelConfig, ModelRepository, ServingError
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.grpc.calls import Call, Method
from keras_seqattn.serving.grpc.model_service import ModelService
from keras_seqattn.serving.grpc.prediction_service import PredictionService
from keras_seqattn.serving.loading import saved_model_loader
from tests.serving.examples import CLASSIFY, REGRESS, example, write_examples_model

CLIENT_ERRORS = {
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.FAILED_PRECONDITION,
    Code.UNIMPLEMENTED,
    Code.PERMISSION_DENIED,
    Code.OUT_OF_RANGE,
}
BOUNDED = settings(
    max_examples=300, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Method]]:
    folder: Path = tmp_path_factory.mktemp("models") / "m"
    write_examples_model(folder / "7")
    repository = ModelRepository([ModelConfig("m", str(folder))], saved_model_loader())
    repository.poll()
    yield {**PredictionService(repository).methods, **ModelService(repository).methods}
    repository.close()


@pytest.fixture(scope="module")
def requests(methods: Mapping[str, Method]) -> Mapping[str, bytes]:
    """A good request for each method."""
    import tensorflow as tf

    spec = {"name": "m", "signature_name": "classify"}
    examples = {"example_list_with_context": {"examples": [example(x=2.0)] * 2, "context": example(name=b"n")}}
    serialized = tf.make_tensor_proto([example(x=2.0).SerializeToString()])
    tasks = [{"model_spec": spec, "method_name": CLASSIFY}, {"model_spec": {"name": "m"}, "method_name": REGRESS}]
    fields: dict[str, dict[str, Any]] = {
        "Predict": {"model_spec": spec, "inputs": {"inputs": serialized}, "output_filter": ["scores"]},
        "Classify": {"model_spec": spec, "input": examples},
        "Regress": {"model_spec": {"name": "m", "version": {"value": 7}}, "input": examples},
        "MultiInference": {"tasks": tasks, "input": examples},
        "GetModelMetadata": {"model_spec": spec, "metadata_field": ["signature_def"]},
        "GetModelStatus": {"model_spec": spec},
        "HandleReloadConfigRequest": {"config": {"model_config_list": {"config": [{"name": "m"}]}}},
    }
    return {name: methods[name].request_class(**given).SerializeToString() for name, given in fields.items()}


def ask(method: Method, content: bytes) -> Code:
    """The code of the answer; INTERNAL for what is no message, else one that tells the client what is wrong."""
    from google.protobuf.message import DecodeError

    try:
        request = method.request_class.FromString(content)
    except DecodeError:
        return Code.INTERNAL
    try:
        method.answer(request, Call(timeout_seconds=10.0)).SerializeToString()
    except ServingError as error:
        assert error.code in CLIENT_ERRORS, error
        assert error.message
        return error.code
    return Code.OK


def test_the_good_requests_are_good(methods: Mapping[str, Method], requests: Mapping[str, bytes]) -> None:
    codes = {name: ask(methods[name], content) for name, content in requests.items()}
    assert codes.pop("HandleReloadConfigRequest") == Code.PERMISSION_DENIED
    assert set(codes.values()) == {Code.OK}


@BOUNDED
@given(data=st.data())
def test_bytes_that_are_changed_by_chance(
    methods: Mapping[str, Method], requests: Mapping[str, bytes], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(requests)))
    content = bytearray(requests[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        if data.draw(st.booleans()) and at < len(content):
            content[at] = data.draw(st.integers(0, 255))
        else:
            content[at:at] = data.draw(st.binary(max_size=5))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    ask(methods[name], bytes(content))


FIELDS = ("float_val", "double_val", "int_val", "int64_val", "uint32_val", "uint64_val", "half_val", "dcomplex_val")


@BOUNDED
@given(
    signature=st.sampled_from(["by_vector", "examples", "two_inputs", "with_default", "no_input", "nothing"]),
    names=st.lists(st.sampled_from(["inputs", "second", "examples", "", "é"]), unique=True, max_size=3),
    dtype=st.integers(0, 140),
    sizes=st.lists(st.sampled_from([-1, 0, 1, 2, 3, 2**31, 2**62]), max_size=4),
    content=st.binary(max_size=9),
    field=st.sampled_from(FIELDS),
    count=st.integers(0, 4),
    output_filter=st.lists(st.sampled_from(["outputs", "scores", "y", ""]), max_size=2),
)
def test_odd_tensors(
    methods: Mapping[str, Method],
    signature: str,
    names: list[str],
    dtype: int,
    sizes: list[int],
    content: bytes,
    field: str,
    count: int,
    output_filter: list[str],
) -> None:
    method = methods["Predict"]
    request = method.request_class(model_spec={"name": "m", "signature_name": signature}, output_filter=output_filter)
    for name in names:
        proto = request.inputs[name]
        proto.dtype = dtype
        for size in sizes:
            proto.tensor_shape.dim.add().size = size
        proto.tensor_content = content
        getattr(proto, field).extend(np.ones(count, np.int32).tolist())
        proto.string_val.extend([b"a"] * count)
    ask(method, request.SerializeToString())
