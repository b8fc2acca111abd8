"""The parts of the client that need no server."""

import inspect
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_seqattn.serving import ServingError
from keras_seqattn.serving.client.address import parse_address
from keras_seqattn.serving.client.arrays import as_input
from keras_seqattn.serving.client.async_client import AsyncClient
from keras_seqattn.serving.client.client import Client
from keras_seqattn.serving.client.examples import example_proto, features_of
from keras_seqattn.serving.client.retries import Deadline, Retries
from keras_seqattn.serving.errors import Code
from tests.serving.examples import example


def test_an_example_is_made_of_plain_values() -> None:
    proto = example(x=2.0, name=b"a", n=[1, 2])
    assert example_proto({"x": 2.0, "name": "a", "n": np.int64([[1, 2]])}) == proto
    assert features_of(proto) == {"x": [2.0], "name": [b"a"], "n": [1, 2]}


def test_features_are_of_one_kind() -> None:
    assert features_of({"a": [True, False], "b": 1, "c": [1, 2.5], "d": np.int64([[1, 2]]), "e": "é"}) == {
        "a": [1, 0], "b": [1], "c": [1.0, 2.5], "d": [1, 2], "e": ["é"],
    }  # fmt: skip
    for wrong in ({"a": None}, {"a": [1, "b"]}, {"a": [[1], [2, 3]]}, "a"):
        with pytest.raises(ValueError, match="Received"):
            features_of(wrong)


def test_the_twins_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, Any]:
        found = vars(kind)
        return {
            name: [str(one) for one in inspect.signature(found[name]).parameters.values()]
            for name in found
            if not name.startswith("_") or name == "__init__"
        }

    assert methods(Client) == methods(AsyncClient)


def test_the_url_chooses_the_transport() -> None:
    for url, expected in {
        "http://host": "http://host:8501",
        "host": "http://host:8501",
        "host:9000": "http://host:9000",
        "https://host/behind/": "https://host/behind",
        "grpc://host": "grpc://host:8500",
        "grpcs://[::1]:443": "grpcs://[::1]:443",
    }.items():
        assert str(parse_address(url)) == expected
    assert parse_address("grpc://host").is_grpc
    assert parse_address("grpcs://host").is_secure
    assert not parse_address("http://host").is_grpc
    assert parse_address("http://127.0.0.1").is_loopback
    assert parse_address("localhost").is_loopback
    for wrong in ("ftp://host", "http://", "http://host:port", "http://host?a=b", "grpc://"):
        with pytest.raises(ValueError, match="Received"):
            Client(wrong)


def test_tensors_and_numpy_strings_are_inputs() -> None:
    assert as_input(tf.constant(["a", "b"]), "string", "x").tolist() == [b"a", b"b"]
    assert as_input(tf.constant([1, 2]), "float", "x").tolist() == [1.0, 2.0]
    assert as_input(np.array(["a", "b"], np.dtypes.StringDType()), "string", "x").tolist() == ["a", "b"]
    assert as_input(np.array([b"a", b"b"]), "string", "x").tolist() == [b"a", b"b"]


def test_inputs_of_unknown_signatures_are_taken_as_they_are() -> None:
    assert as_input([1, 2], None, "x").dtype == np.int64
    assert as_input(["a"], None, "x").tolist() == ["a"]
    assert as_input(np.array(["a"]), "string", "x").dtype == object


def test_pauses_are_drawn_below_a_limit_that_doubles() -> None:
    retries, busy = Retries(5, 0.1, 0.3), ServingError(Code.UNAVAILABLE, "busy")
    for attempt, limit in ((1, 0.1), (2, 0.2), (3, 0.3), (4, 0.3)):
        pauses = [retries.pause_seconds(attempt, busy) for _ in range(200)]
        drawn = [pause for pause in pauses if pause is not None]
        assert len(drawn) == 200
        assert 0 <= min(drawn) < 0.2 * limit
        assert 0.8 * limit < max(drawn) <= limit
    assert retries.pause_seconds(5, busy) is None
    assert retries.pause_seconds(1, ServingError(Code.INVALID_ARGUMENT, "wrong")) is None


def test_a_deadline_may_be_none() -> None:
    assert Deadline(None).seconds_left() is None
    left = Deadline(10.0).seconds_left()
    assert left is not None
    assert 9 < left <= 10
