"""Small SavedModels, made once, and an application that serves them without sockets."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_seqattn.serving import RestApplication
from keras_seqattn.serving.loading import saved_model_loader
from keras_seqattn.serving.models.model_config import ModelConfig
from keras_seqattn.serving.models.repository import ModelRepository

# Signature dtypes that JSON can hold, by TensorFlow's name in messages and in Python.
DTYPES = {
    "float": "float32", "double": "float64", "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64",
    "uint8": "uint8", "uint32": "uint32", "uint64": "uint64", "bool": "bool", "string": "string",
}  # fmt: skip


def write_saved_model(folder: Path, functions: dict[str, Any]) -> Path:
    """Saves functions, each with its input signature, as the signatures of a SavedModel."""
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), str(folder), signatures=functions)
    return folder


def function(result: Callable[..., Any], **inputs: tuple[list[int | None] | None, str]) -> Any:
    """A tf.function with named inputs: name = (shape, dtype)."""
    import tensorflow as tf

    specs = {name: tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in inputs.items()}
    return tf.function(result).get_concrete_function(**specs)


def write_scaling_model(folder: Path, scale: float) -> Path:
    """One signature: y = scale * x."""
    return write_saved_model(folder, {"serving_default": function(lambda x: {"y": x * scale}, x=([None], "float32"))})


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models `half_plus_two` (versions 2 and 123) and `many` (version 1, many signatures)."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("models")
    for version in ("2", "00000123"):
        write_saved_model(
            folder / "half_plus_two" / version,
            {"serving_default": function(lambda x: {"y": x * 0.5 + 2.0}, x=([None], "float32"))},
        )

    def several(a: Any, b: Any, s: Any) -> dict[str, Any]:
        return {"total": tf.reduce_sum(a, axis=-1), "next": b + 1, "text": tf.strings.upper(s)}

    def spin(steps: Any) -> dict[str, Any]:
        return {"y": tf.while_loop(lambda i: i < steps[0], lambda i: (i + 1,), (tf.constant(0, tf.int64),))[0][None]}

    def three(x: Any) -> dict[str, Any]:
        return {"rows_bytes": tf.tile(x[:, None], [1, 2]), "plain": x, "numbers_bytes": tf.strings.length(x)}

    signatures = {
        "serving_default": function(lambda x: {"y": x * 0.5 + 2.0}, x=([None], "float32")),
        "several": function(several, a=([None, 2], "float32"), b=([None], "int32"), s=([None], "string")),
        "text": function(lambda text: {"upper": tf.strings.upper(text)}, text=([None], "string")),
        "picture": function(lambda image: {"image_bytes": image}, image=(None, "string")),
        "pictures": function(three, x=([None], "string")),
        "total": function(lambda x: {"y": tf.reduce_sum(x)}, x=(None, "float32")),
        "uneven": function(lambda x: {"a": x, "b": tf.concat([x, x], 0)}, x=([None], "float32")),
        "matrix": function(lambda x: {"y": tf.matmul(x, tf.ones([5, 2]))}, x=([None, None], "float32")),
        "pick": function(lambda i: {"y": tf.gather(tf.constant([2.0, 3.0, 5.0]), i)}, i=([None], "int32")),
        "add": function(lambda a, b: {"y": a + b}, a=(None, "float32"), b=(None, "float32")),
        "spin": function(spin, steps=([None], "int64")),
        "nothing": function(lambda: {"y": tf.constant([7.0])}),
        "halves": function(lambda x: {"y": tf.cast(x, "float16")}, x=([None], "float32")),
        "from_halves": function(lambda x: {"y": tf.cast(x, "float32")}, x=([None], "float16")),
        **{f"same_{name}": function(lambda x: {"y": tf.identity(x)}, x=(None, name)) for name in DTYPES.values()},
    }
    write_saved_model(folder / "many" / "1", signatures)
    return folder


@pytest.fixture(scope="session")
def repository(models: Path) -> Iterator[ModelRepository]:
    configs = [ModelConfig(name, str(models / name)) for name in ("half_plus_two", "many")]
    repository = ModelRepository(configs, saved_model_loader(), max_num_load_retries=0)
    repository.poll()
    yield repository
    repository.close()


@pytest.fixture(scope="session")
def app(repository: ModelRepository) -> RestApplication:
    return RestApplication(repository)


class Asker:
    """Posts to one model; gives the status and the parsed body."""

    def __init__(self, app: RestApplication, model: str) -> None:
        self.app, self.path = app, f"/v1/models/{model}:predict"

    def raw(self, body: str | bytes) -> tuple[int, str]:
        response = self.app.handle("POST", self.path, body)
        assert response.headers["Content-Type"] == "application/json"
        return response.status, response.body.decode("utf-8", "surrogateescape")

    def __call__(self, body: str | bytes) -> tuple[int, Any]:
        status, text = self.raw(body)
        return status, json.loads(text)

    def answer(self, body: str | bytes) -> Any:
        """The body of a success."""
        status, document = self(body)
        assert status == 200, document
        return document

    def error(self, body: str | bytes, status: int = 400) -> str:
        """The message of an error."""
        got, document = self(body)
        assert (got, list(document)) == (status, ["error"]), document
        return str(document["error"])


@pytest.fixture(scope="session")
def half(app: RestApplication) -> Asker:
    return Asker(app, "half_plus_two")


@pytest.fixture(scope="session")
def many(app: RestApplication) -> Asker:
    return Asker(app, "many")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
