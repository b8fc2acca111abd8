"""Requests in batches: section 12 of the contract. Real SavedModels, real threads, TensorFlow's own scheduler."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_seqattn.serving import ServingError
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.models.batching import BatchedServable, BatchingParameters, batched
from keras_seqattn.serving.models.servable import load_saved_model
from tests.serving.conftest import function, write_saved_model


def rows(*values: float) -> dict[str, Any]:
    return {"x": np.float32(values)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model with all kinds of signatures."""
    import tensorflow as tf

    def spin(steps: Any) -> dict[str, Any]:
        most = tf.reduce_max(steps)
        done = tf.while_loop(lambda i: i < most, lambda i: (i + 1,), (tf.constant(0, tf.int64),))[0]
        return {"y": steps + 0 * done}

    def positive(x: Any) -> dict[str, Any]:
        with tf.control_dependencies([tf.debugging.assert_positive(x, message="only positive numbers")]):
            return {"y": tf.sqrt(x)}

    signatures = {
        "serving_default": function(lambda x: {"y": 2 * x + 1, "z": -x}, x=([None], "float32")),
        "pair": function(lambda a, b: {"sum": a + tf.cast(b, tf.float32)}, a=([None], "float32"), b=([None], "int32")),
        "spin": function(spin, steps=([None], "int64")),
        "positive": function(positive, x=([None], "float32")),
        "same": function(lambda x: {"y": tf.identity(x)}, x=([None, None], "float32")),
        "words": function(lambda x: {"y": tf.strings.upper(x)}, x=([None, None], "string")),
        "table": function(lambda x: {"y": x + tf.cast(tf.shape(x), tf.float32)[0]}, x=([None, None, None], "float32")),
        "total": function(lambda x: {"y": tf.reduce_sum(x)}, x=([None], "float32")),
        "twice": function(lambda x: {"y": tf.concat([x, x], 0)}, x=([None], "float32")),
        "nothing": function(lambda: {"y": tf.constant([7.0])}),
    }
    return write_saved_model(tmp_path_factory.mktemp("batching") / "1", signatures)


class Kitchen:
    """Loads the model with some parameters, and remembers the sizes of the batches that ran."""

    def __init__(self, saved: Path) -> None:
        self.saved, self.sizes, self.loaded = saved, list[int](), list[BatchedServable]()

    def __call__(self, **parameters: Any) -> BatchedServable:
        defaults: dict[str, Any] = {"max_batch_size": 4, "batch_timeout_micros": 500_000, "num_batch_threads": 1}
        servable = batched(
            load_saved_model(self.saved),
            BatchingParameters(**{**defaults, **parameters}),
            on_batch=lambda name, size: self.sizes.append(size),
        )
        self.loaded.append(servable)
        return servable


@pytest.fixture
def kitchen(saved: Path) -> Iterator[Kitchen]:
    kitchen = Kitchen(saved)
    yield kitchen
    for servable in kitchen.loaded:
        servable.close()


def together(calls: Sequence[Callable[[], Any]], pause: float = 0.0) -> list[Any]:
    """What the calls give when made at the same time, each in a thread; errors are results."""
    results: list[Any] = [None] * len(calls)

    def work(place: int) -> None:
        try:
            results[place] = calls[place]()
        except ServingError as error:
            results[place] = error

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
        time.sleep(pause)
    for thread in threads:
        thread.join()
    return results


def ask(servable: BatchedServable, inputs: dict[str, Any], name: str = "serving_default", **options: Any) -> Any:
    return lambda: servable.run(name, inputs, **options)


@pytest.mark.rule("batching.merges")
def test_concurrent_runs_of_a_signature_share_a_batch_and_get_their_own_rows(kitchen: Kitchen) -> None:
    """Section 12: merges concurrent runs of one signature along dimension 0 and splits the outputs."""
    servable = kitchen()
    answers = together([ask(servable, rows(10, 11)), ask(servable, rows(20)), ask(servable, rows(30))])
    assert [answer["y"].tolist() for answer in answers] == [[21, 23], [41], [61]]
    assert [answer["z"].tolist() for answer in answers] == [[-10, -11], [-20], [-30]]
    assert kitchen.sizes == [4]  # full, so that nobody waited for the timeout
    assert servable.queue_depth == 0


@pytest.mark.rule("batching.merges")
def test_several_inputs_stay_with_each_other(kitchen: Kitchen) -> None:
    """Section 12: inputs of one run are merged in the same order."""
    servable = kitchen()
    pairs = [{"a": np.float32([i]), "b": np.int32([100 * i])} for i in range(4)]
    answers = together([ask(servable, pair, "pair") for pair in pairs])
    assert [answer["sum"].tolist() for answer in answers] == [[0], [101], [202], [303]]


@pytest.mark.rule("batching.timeout")
def test_a_batch_leaves_after_its_timeout(kitchen: Kitchen) -> None:
    """Section 12: batch_timeout_micros."""
    servable = kitchen(batch_timeout_micros=100_000)
    servable.run("serving_default", rows(1))
    started = time.monotonic()
    assert servable.run("serving_default", rows(3))["y"].tolist() == [7]
    assert 0.09 < time.monotonic() - started < 2
    assert kitchen.sizes == [1, 1]


@pytest.mark.rule("batching.pads")
def test_batches_are_padded_up_to_an_allowed_size(kitchen: Kitchen) -> None:
    """Section 12: allowed_batch_sizes; the padding is in nobody's answer."""
    servable = kitchen(max_batch_size=8, allowed_batch_sizes=(4, 8))
    answers = together([ask(servable, rows(1)), ask(servable, rows(2, 3))])
    assert [answer["y"].tolist() for answer in answers] == [[3], [5, 7]]
    assert kitchen.sizes == [4]


def test_only_the_wanted_outputs_come_back(kitchen: Kitchen) -> None:
    assert list(kitchen(batch_timeout_micros=0).run("serving_default", rows(1), outputs=["z"])) == ["z"]


def test_a_run_of_no_rows_has_the_shape_of_the_model(kitchen: Kitchen) -> None:
    servable = kitchen()
    assert servable.run("same", {"x": np.zeros((0, 3), np.float32)})["y"].shape == (0, 3)
    assert kitchen.sizes == []


@pytest.mark.rule("batching.full-queue")
def test_a_full_queue_refuses_at_once(kitchen: Kitchen) -> None:
    """Section 12: max_enqueued_batches; a bounded queue answers UNAVAILABLE rather than grow."""
    servable = kitchen(max_batch_size=1, max_enqueued_batches=1)
    slow = {"steps": np.int64([30_000])}
    servable.run("spin", slow)
    waited = []

    def one_more() -> Any:
        started = time.monotonic()
        try:
            return servable.run("spin", slow)
        finally:
            waited.append(time.monotonic() - started)

    answers = together([ask(servable, slow, "spin"), ask(servable, slow, "spin"), one_more], pause=0.01)
    assert [isinstance(answer, ServingError) for answer in answers] == [False, False, True]
    assert answers[2].code == Code.UNAVAILABLE
    assert answers[2].message == (
        "The batch scheduling queue to which this task was submitted is full; currently 1 batches enqueued and "
        "max_enqueued_batches is 1"
    )
    assert waited[0] < 0.05
    assert servable.run("spin", slow)["y"].tolist() == [30_000]  # and serves again


def test_a_run_whose_time_is_over_before_its_turn_is_not_computed(kitchen: Kitchen) -> None:
    """Section 12: a deadline that passes in the queue; TensorFlow Serving's batching words it like this."""
    servable = kitchen(max_batch_size=1, batch_timeout_micros=0)
    slow = {"steps": np.int64([30_000])}
    servable.run("spin", slow)
    kitchen.sizes.clear()
    answers = together(
        [
            ask(servable, slow, "spin"),
            ask(servable, slow, "spin"),
            ask(servable, slow, "spin", timeout_seconds=0.02),
            ask(servable, slow, "spin", timeout_seconds=30.0),
        ],
        pause=0.01,
    )
    assert [isinstance(answer, ServingError) for answer in answers] == [False, False, True, False]
    assert answers[2].code == Code.RESOURCE_EXHAUSTED
    assert answers[2].message == "Run() timeout exceeded while waiting in batching queue"
    assert kitchen.sizes == [1, 1, 1]


def test_a_short_deadline_does_not_cancel_the_others_in_the_batch(kitchen: Kitchen) -> None:
    """Section 12: the batch lasts until the last deadline of its runs, as in TensorFlow Serving's batching."""
    servable = kitchen(max_batch_size=2, batch_timeout_micros=1_000_000)
    slow = {"steps": np.int64([30_000])}
    together([ask(servable, slow, "spin")] * 2)
    patient, hasty = together(
        [
            ask(servable, slow, "spin", timeout_seconds=30.0),
            ask(servable, slow, "spin", timeout_seconds=0.01),
        ],
        pause=0.005,
    )
    assert patient["y"].tolist() == hasty["y"].tolist() == [30_000]
    assert kitchen.sizes == [2, 2]


@pytest.mark.rule("grpc.deadline")
def test_a_batch_is_cancelled_when_all_its_deadlines_have_passed(kitchen: Kitchen) -> None:
    """Section 2: a timeout is DEADLINE_EXCEEDED, in a batch too."""
    servable = kitchen(max_batch_size=2, batch_timeout_micros=1_000_000)
    endless = {"steps": np.int64([10**12])}
    started = time.monotonic()
    answers = together([ask(servable, endless, "spin", timeout_seconds=0.2)] * 2)
    assert [answer.code for answer in answers] == [Code.DEADLINE_EXCEEDED] * 2
    assert time.monotonic() - started < 2


@pytest.mark.rule("error.of-ops")
def test_an_error_reaches_the_runs_of_its_batch_and_no_other(kitchen: Kitchen) -> None:
    """Section 2: errors raised by graph ops keep their own code and text."""
    servable = kitchen(max_batch_size=2)
    answers = together([ask(servable, rows(4), "positive"), ask(servable, rows(-4), "positive")])
    for answer in answers:
        assert answer.code == Code.INVALID_ARGUMENT
        assert "only positive numbers" in answer.message
        assert "batching/" not in answer.message
        assert not answer.message.startswith("{{function_node")
    assert together([ask(servable, rows(4), "positive"), ask(servable, rows(9), "positive")])[1]["y"].tolist() == [3]


@pytest.mark.rule("batching.inputs")
@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        ("serving_default", {"x": np.float32(3)}, "must have at least one dimension"),
        (
            "pair",
            {"a": np.float32([1, 2]), "b": np.int32([1])},
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
        ("nothing", {}, "Batching Run() must have at least one input tensor"),
        ("serving_default", rows(1, 2, 3, 4, 5), "Task size 5 is larger than maximum input batch size 4"),
    ],
)
def test_a_run_that_fits_in_no_batch_is_refused(
    kitchen: Kitchen, signature: str, inputs: dict[str, Any], message: str
) -> None:
    """Section 12: every input needs a batch dimension, of one size, at most max_batch_size."""
    with pytest.raises(ServingError) as raised:
        kitchen().run(signature, inputs)
    assert raised.value.code == Code.INVALID_ARGUMENT
    assert message in raised.value.message


@pytest.mark.rule("batching.outputs")
@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("total", "Batched output tensor has 0 dimensions"),
        (
            "twice",
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input",
        ),
    ],
)
def test_every_output_needs_a_batch_dimension(kitchen: Kitchen, signature: str, message: str) -> None:
    """Section 12: `Batched output tensor has 0 dimensions`, `... 0th dimension does not equal the sum of ...`."""
    with pytest.raises(ServingError) as raised:
        kitchen(batch_timeout_micros=0).run(signature, rows(1, 2))
    assert raised.value.code == Code.FAILED_PRECONDITION
    assert raised.value.message.startswith(message)  # newer versions of TensorFlow add the sizes


@pytest.mark.rule("batching.splits")
def test_large_requests_are_split_if_asked(kitchen: Kitchen) -> None:
    """Section 12: enable_large_batch_splitting, max_execution_batch_size."""
    servable = kitchen(
        max_batch_size=8, enable_large_batch_splitting=True, max_execution_batch_size=3, batch_timeout_micros=0
    )
    assert servable.run("serving_default", rows(*range(8)))["y"].tolist() == [1, 3, 5, 7, 9, 11, 13, 15]
    assert sorted(kitchen.sizes) == [2, 3, 3]
    with pytest.raises(ServingError, match="Task size 9 is larger than maximum input batch size 8"):
        servable.run("serving_default", rows(*range(9)))


@pytest.mark.rule("batching.splits", "batching.sizes")
def test_large_requests_are_split_into_allowed_sizes(kitchen: Kitchen) -> None:
    """Section 12: with splitting, the last allowed size is max_execution_batch_size."""
    servable = kitchen(
        max_batch_size=8,
        enable_large_batch_splitting=True,
        max_execution_batch_size=4,
        allowed_batch_sizes=(2, 4),
        batch_timeout_micros=0,
    )
    assert servable.run("serving_default", rows(*range(5)))["y"].tolist() == [1, 3, 5, 7, 9]
    assert sorted(kitchen.sizes) == [2, 4]


@pytest.mark.rule("batching.different-shapes")
def test_different_shapes_do_not_go_into_one_batch(kitchen: Kitchen) -> None:
    """Section 12: different shapes without padding are FAILED_PRECONDITION."""
    servable = kitchen(max_batch_size=2)
    answers = together([ask(servable, {"x": np.ones((1, width), np.float32)}, "same") for width in (2, 3)])
    for answer in answers:
        assert answer.code == Code.FAILED_PRECONDITION
        assert answer.message == (
            "Tensors with name 'same_x:0' from different tasks have different shapes and padding is turned off."
            "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name"
            "have equal dimensions starting with the first dim."
        )


@pytest.mark.rule("batching.different-shapes")
def test_different_shapes_are_padded_if_asked(kitchen: Kitchen) -> None:
    """Section 12: pad_variable_length_inputs, with the first value of each request."""
    servable = kitchen(max_batch_size=3, pad_variable_length_inputs=True)
    short, long = together(
        [
            ask(servable, {"x": np.float32([[5, 6], [7, 8]])}, "same"),
            ask(servable, {"x": np.float32([[1, 2, 3, 4]])}, "same"),
        ]
    )
    assert short["y"].tolist() == [[5, 6, 5, 5], [7, 8, 5, 5]]
    assert long["y"].tolist() == [[1, 2, 3, 4]]
    assert kitchen.sizes == [3]


@pytest.mark.rule("batching.different-shapes")
def test_texts_and_tables_are_padded_too(kitchen: Kitchen) -> None:
    """Section 12: pad_variable_length_inputs, for strings and in each dimension but the first."""
    servable = kitchen(max_batch_size=2, pad_variable_length_inputs=True)
    words = [np.array([[b"a", b"b"]], dtype=object), np.array([[b"c"]], dtype=object)]
    answers = together([ask(servable, {"x": value}, "words") for value in words])
    assert [answer["y"].tolist() for answer in answers] == [[[b"A", b"B"]], [[b"C", b"C"]]]
    tables = [np.float32([[[1, 2]]]), np.float32([[[3], [4]]])]
    answers = together([ask(servable, {"x": value}, "table") for value in tables])
    assert [answer["y"].tolist() for answer in answers] == [[[[3, 4], [3, 3]]], [[[5, 5], [6, 5]]]]  # 2 rows each


def test_variables_and_tables_are_shared_with_the_model(tmp_path: Path) -> None:
    """Section 12: batching wraps the model's session; there is no second copy of its variables."""
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__(name="model")
            keys = tf.lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([3, 5], tf.int64))
            self.table = tf.lookup.StaticHashTable(keys, -1)
            self.calls = tf.Variable(0, dtype=tf.int64)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="key")])
        def look_up(self, key: Any) -> dict[str, Any]:
            calls = self.calls.assign_add(1)
            return {"value": self.table.lookup(key), "call": tf.fill(tf.shape(key), calls)}

    module = Model()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.look_up)
    plain = load_saved_model(tmp_path / "1")
    servable = batched(plain, BatchingParameters(max_batch_size=2, batch_timeout_micros=0))
    keys = {"key": np.array([b"b", b"c"], dtype=object)}
    assert servable.run("serving_default", keys)["value"].tolist() == [5, -1]
    assert servable.run("serving_default", keys)["call"].tolist() == [2, 2]
    assert plain.run("serving_default", keys)["call"].tolist() == [3, 3]
    servable.close()


@pytest.mark.parametrize("by_reference", [False, True])
def test_models_of_tensorflow_1_are_batched_where_they_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, by_reference: bool
) -> None:
    """Section 12, for a model whose variable is read through a node, and one that uses it by reference."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        scale = v1.get_variable("scale", initializer=3.0, use_resource=False)
        value = v1.raw_ops.Add(x=x, y=scale._ref()) if by_reference else x * scale
        total = v1.while_loop(lambda i, s: i < 2, lambda i, s: (i + 1, s + value), [0, tf.zeros_like(x)])[1]
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.builder.SavedModelBuilder(str(tmp_path / "1"))
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": total})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    sizes: list[int] = []
    servable = batched(
        load_saved_model(tmp_path / "1"),
        BatchingParameters(max_batch_size=2, batch_timeout_micros=0),
        on_batch=lambda name, size: sizes.append(size),
    )
    expected = [8, 10] if by_reference else [6, 12]
    assert servable.run("serving_default", rows(1, 2))["y"].tolist() == expected
    assert sizes == ([] if by_reference else [2])
    assert ("Signature serving_default runs without batching" in caplog.text) == by_reference
    servable.close()
