"""Warm-up requests of every kind (contract section 13): they run before the version is available, or it is not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_seqattn.serving import ModelConfig, ModelRepository, ServingError
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.loading import saved_model_loader
from keras_seqattn.serving.models.servable import SavedModelServable, load_saved_model
from keras_seqattn.serving.models.warmup import replay_warmup
from tests.serving.examples import CLASSIFY, REGRESS, example, write_examples_model


class Counting:
    """A servable that notes the signatures that run."""

    def __init__(self, servable: SavedModelServable) -> None:
        self.servable, self.ran = servable, list[tuple[str, int]]()
        self.signatures, self.signature_defs = servable.signatures, servable.signature_defs

    def run(self, name: str, inputs: Mapping[str, Any], timeout_seconds: Any = None, **options: Any) -> Any:
        self.ran.append((name, len(next(iter(inputs.values())))))
        return self.servable.run(name, inputs, timeout_seconds, **options)

    def close(self) -> None:
        self.servable.close()


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return write_examples_model(tmp_path / "m" / "7")


def write_requests(version: Path, *logs: Mapping[str, Any]) -> None:
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    (version / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(version / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for log in logs:
            writer.write(prediction_log_pb2.PredictionLog(**log).SerializeToString())


def asks(signature: str, *examples: Any, model: str = "any") -> dict[str, Any]:
    return {
        "model_spec": {"name": model, "signature_name": signature, "version": {"value": 99}},
        "input": {"example_list": {"examples": examples}},
    }


@pytest.mark.rule("warmup.kinds", "warmup.signature", "warmup.flags")
def test_all_kinds_are_replayed_in_order(version: Path) -> None:
    """Model name and version in the requests do not matter, the signature does; empty means serving_default."""
    import tensorflow as tf

    one = example(x=2.0)
    tasks = [
        {"model_spec": {"name": "m", "signature_name": "classify"}, "method_name": CLASSIFY},
        {"model_spec": {"name": "m"}, "method_name": REGRESS},
    ]
    with_context = {"example_list_with_context": {"examples": [example()], "context": one}}
    predict = {"model_spec": {}, "inputs": {"inputs": tf.make_tensor_proto([one.SerializeToString()])}}
    write_requests(
        version,
        {"predict_log": {"request": predict}},
        {"classify_log": {"request": asks("classify", one, one)}},
        {"regress_log": {"request": asks("", one, one, one)}},
        {"multi_inference_log": {"request": {"tasks": tasks, "input": with_context}}},
    )
    servable = Counting(load_saved_model(version))
    assert replay_warmup(servable, str(version)) == 4
    expected = [
        ("serving_default", 1),
        ("classify", 2),
        ("serving_default", 3),
        ("classify", 1),
        ("serving_default", 1),
    ]
    assert servable.ran == expected
    servable.ran.clear()
    assert replay_warmup(servable, str(version), num_iterations=2) == 4
    assert len(servable.ran) == 10
    servable.close()


@pytest.mark.rule("warmup.failures", "warmup.other-kinds")
@pytest.mark.parametrize(
    ("log", "code", "message"),
    [
        ({"classify_log": {"request": asks("s", example(x=2.0))}}, Code.INVALID_ARGUMENT, "with the name: s"),
        ({"classify_log": {"request": asks("classify")}}, Code.INVALID_ARGUMENT, "Input is empty."),
        ({"regress_log": {"request": asks("", example(y=2.0))}}, Code.INVALID_ARGUMENT, "Feature: x"),
        ({"multi_inference_log": {"request": {}}}, Code.INVALID_ARGUMENT, "no name specified"),
        (
            {"multi_inference_log": {"request": {"tasks": [{"model_spec": {"name": "m"}, "method_name": "x"}]}}},
            Code.UNIMPLEMENTED,
            "Unsupported signature method_name: x",
        ),
        ({"session_run_log": {}}, Code.UNIMPLEMENTED, "Unsupported log_type for warmup: session_run_log"),
    ],
)
def test_a_request_that_fails_makes_the_load_fail(
    version: Path, log: Mapping[str, Any], code: Code, message: str
) -> None:
    write_requests(version, {"regress_log": {"request": asks("", example(x=2.0))}}, log)
    repository = ModelRepository([ModelConfig("m", str(version.parent))], saved_model_loader(), max_num_load_retries=0)
    repository.poll()
    (status,) = repository.statuses("m")
    assert (status.state, status.error and status.error.code) == ("END", code)
    assert status.error is not None
    assert message in status.error.message
    assert "record 1" in status.error.message
    with pytest.raises(ServingError, match="Servable not found"), repository.lease("m"):
        pass
    repository.close()


def test_the_replayed_version_answers(version: Path) -> None:
    write_requests(version, {"regress_log": {"request": asks("", example(x=2.0))}})
    servable = load_saved_model(version)
    replay_warmup(servable, str(version))
    serialized = np.array([example(x=2.0).SerializeToString()], dtype=object)
    assert servable.run("regress", {"inputs": serialized})["outputs"].tolist() == [[3.0]]
    servable.close()
