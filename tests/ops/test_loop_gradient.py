"""The loop of a training step on TensorFlow: its gradients are those of the plain loop, at less work."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.layers import AttentionCell, GRUCell, LSTMCell, LuongAttention, Recurrent
from keras_seqattn.ops import product, scan, scan_unrolled
from tests.reference.arrays import B, D, S, T, U, V, normal

pytestmark = pytest.mark.tensorflow_only
JIT = pytest.mark.parametrize("jit_compile", [False, True])


def values(rng):
    """Everything that a step of `steps` reads, by name."""
    shapes = {
        "h": (B, U), "x": (T, B, D), "kernel": (U, U), "fed": (2 * D, U), "gain": (U,), "bias": (U,),
        "memory": (B, S, U), "pairs": (B, S, U),
    }  # fmt: skip
    return {name: 0.5 * normal(rng, *shape) for name, shape in shapes.items()}


def step_of(read):
    """A step with every kind of product: whole, sliced and batched kernels, one of which is used twice."""

    def step(states, now):
        h = states["h"]
        z = product(h, read["kernel"], read["bias"] * 2) + product(now["x"], read["fed"][D:]) * read["gain"]
        scores = ops.softmax(product(h[:, None], ops.transpose(read["memory"], (0, 2, 1))), axis=-1)  # (B, 1, S)
        context = product(scores, read["memory"])[:, 0]
        additive = ops.mean(ops.tanh(h[:, None] + read["pairs"]), axis=1)
        h = ops.where(now["keep"][:, None], ops.tanh(z + context + additive + product(z, read["kernel"])), h)
        return {"h": h, "count": states["count"] + 1}, {"h": h, "scores": scores, "count": states["count"]}

    return step


KEEP = np.array([[1, 1], [0, 1], [1, 0]], bool)  # (T, B)


def loss_and_gradients(run, given, jit_compile=False):
    """A loss of everything that `run` gives, and its gradient with respect to everything it reads."""
    import tensorflow as tf

    variables = {name: tf.Variable(given[name]) for name in ("kernel", "gain", "bias")}
    tensors = {name: tf.constant(value) for name, value in given.items() if name not in variables}

    @tf.function(jit_compile=jit_compile)
    def compute(tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            read = {**tensors, **variables}
            states = {"h": read["h"], "count": tf.constant(0)}
            last, outputs = run(step_of(read), states, {"x": read["x"], "keep": tf.constant(KEEP)}, T)
            loss = tf.reduce_sum(last["h"] ** 2) + tf.reduce_sum(outputs["h"] * np.arange(1, U + 1))
            loss += tf.reduce_sum(outputs["scores"] ** 3)
        return loss, tape.gradient(loss, read), last["count"]

    loss, found, count = compute(tensors)
    assert int(count) == T
    return float(loss), {name: value.numpy() for name, value in found.items()}


def trained(*arguments):
    return scan(*arguments, training=True)


@JIT
def test_gradients_equal_those_of_the_plain_loop(rng, jit_compile):
    given = values(rng)
    loss, found = loss_and_gradients(trained, given, jit_compile)
    expected_loss, expected = loss_and_gradients(scan_unrolled, given)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for name in given:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5 * np.abs(expected[name]).max(), err_msg=name)


def test_gradients_in_half_precision_are_near_those_in_single(rng):
    given = values(rng)
    _, found = loss_and_gradients(trained, {name: value.astype("float16") for name, value in given.items()})
    _, expected = loss_and_gradients(scan_unrolled, given)
    for name in given:
        assert found[name].dtype == "float16"
        np.testing.assert_allclose(found[name], expected[name], atol=0.02 * np.abs(expected[name]).max(), err_msg=name)


@pytest.mark.parametrize("steps", [1, None], ids=["one_step", "unknown_length"])
def test_any_number_of_steps(rng, steps):
    import tensorflow as tf

    layer, inputs = Recurrent(LSTMCell(U)), normal(rng, B, steps or T, D)
    layer(inputs)

    @tf.function(input_signature=[tf.TensorSpec((None, steps, D))])
    def gradient(inputs):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(inputs)
            losses = [tf.reduce_sum(layer(inputs, training=training) ** 2) for training in (True, False)]
        return [tape.gradient(loss, inputs) for loss in losses]

    one, other = gradient(inputs)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def loop_shapes(function):
    """The shapes of what the loops of a function change from step to step."""
    bodies = {body.signature.name: body for body in function.graph.as_graph_def().library.function}
    shapes = set()
    for loop in function.graph.get_operations():
        if loop.type in ("While", "StatelessWhile"):
            body = bodies[loop.get_attr("body").name]
            sources = {node.name: node.input[0] for node in body.node_def if node.op == "Identity"}
            for output, argument in zip(loop.outputs, body.signature.output_arg, strict=True):
                source = body.ret[argument.name]
                while source.split(":")[0] in sources:
                    source = sources[source.split(":")[0]]
                if source not in {argument.name for argument in body.signature.input_arg}:
                    shapes.add(tuple(output.shape) if output.shape.rank is not None else None)
    return shapes


@pytest.mark.parametrize("cell", [LSTMCell, GRUCell])
def test_no_loop_adds_up_the_gradient_of_a_kernel(rng, cell):
    import tensorflow as tf

    layer, inputs = Recurrent(cell(U), return_sequences=True), tf.constant(normal(rng, B, T, D))
    layer(inputs)
    variables = [variable.value for variable in layer.trainable_variables]

    def shapes(training):
        @tf.function
        def gradient(inputs):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer(inputs, training=training) ** 2)
            return tape.gradient(loss, variables)

        return loop_shapes(gradient.get_concrete_function(inputs))

    kernel = tuple(layer.cell.recurrent_kernel.shape)
    assert kernel in shapes(training=False)  # so the loops are looked at in the right place
    assert kernel not in shapes(training=True)


def test_nor_does_one_add_up_the_gradient_of_a_memory(rng):
    import tensorflow as tf

    cell = AttentionCell(LSTMCell(U), LuongAttention("general"), attention_units=D)
    layer, inputs, memory = Recurrent(cell), tf.constant(normal(rng, B, T, D)), tf.constant(normal(rng, B, S, V))
    layer(inputs, memory=memory)

    @tf.function
    def gradient(inputs, memory):
        with tf.GradientTape() as tape:
            tape.watch(memory)
            loss = tf.reduce_sum(layer(inputs, memory=memory, training=True) ** 2)
        return tape.gradient(loss, memory)

    carried = loop_shapes(gradient.get_concrete_function(inputs, memory))
    assert not {(B, S, V), (B, S, U)} & carried


def test_the_backward_loop_meets_the_dropout_masks_of_the_forward_one(rng):
    # Keras's cells forget theirs when the layer's call is over, before any gradient is asked for.
    import tensorflow as tf

    class Fading(keras.layers.Layer):
        state_size = output_size = D
        mask = None

        def call(self, inputs, states):
            output = (inputs + states[0]) * (1.0 if self.mask is None else self.mask)
            return output, [output]

    cell, inputs = Fading(), tf.constant(normal(rng, B, T, D))
    layer = Recurrent(cell)

    @tf.function
    def gradient(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            cell.mask = 0.5
            loss = tf.reduce_sum(layer(inputs, training=True))
            cell.mask = None
        return tape.gradient(loss, inputs)

    steps = 0.5 ** np.arange(T, 0, -1.0)
    np.testing.assert_allclose(gradient(inputs), np.broadcast_to(steps[:, None], (B, T, D)), rtol=1e-6)


def test_a_second_derivative_is_refused_with_the_way_to_get_it(rng):
    import tensorflow as tf

    layer, inputs = Recurrent(GRUCell(U)), tf.constant(normal(rng, B, T, D))
    layer(inputs)

    def twice(training):
        @tf.function
        def compute(inputs):
            with tf.GradientTape() as outer:
                outer.watch(inputs)
                with tf.GradientTape() as inner:
                    inner.watch(inputs)
                    loss = tf.reduce_sum(layer(inputs, training=training))
                slope = tf.reduce_sum(inner.gradient(loss, inputs) ** 2)
            return outer.gradient(slope, inputs)

        return compute(inputs)

    with pytest.raises(NotImplementedError, match="Second derivatives need `training=False`"):
        twice(training=True)
    assert np.abs(twice(training=False)).max() > 0


def test_a_model_in_mixed_precision_trains(rng):
    inputs = keras.Input((T, D))
    model = keras.Model(inputs, Recurrent(LSTMCell(U, dtype="mixed_bfloat16"), dtype="mixed_bfloat16")(inputs))
    model.compile("sgd", "mse")
    before = [ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    model.train_on_batch(normal(rng, B, T, D), normal(rng, B, U))
    for old, new in zip(before, model.trainable_weights, strict=True):
        assert np.isfinite(new).all()
        assert np.abs(ops.convert_to_numpy(new) - old).max() > 0


@pytest.mark.parametrize("attention", ["dot", "general", "local-p", "bahdanau"])
def test_a_model_trains_on_batches_whose_sizes_are_known_only_when_they_come(rng, attention):
    import tensorflow as tf

    from keras_seqattn.models import Seq2Seq

    model = Seq2Seq(V, V, units=U, embedding_dim=D, cell="gru", attention=attention, window=2)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def batches():
        for rows, source, target in ((2, 5, 3), (3, 7, 2)):
            ids = rng.integers(1, V, (rows, max(source, target)))
            yield {"source": ids[:, :source], "target": ids[:, :target]}, ids[:, :target]

    open_ids = tf.TensorSpec((None, None), tf.int32)
    data = tf.data.Dataset.from_generator(
        batches, output_signature=({"source": open_ids, "target": open_ids}, open_ids)
    )
    before = [ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    model.fit(data.repeat(), steps_per_epoch=2, shuffle=False, verbose=0)
    for old, new in zip(before, model.trainable_weights, strict=True):
        assert np.isfinite(ops.convert_to_numpy(new)).all()
        assert np.abs(ops.convert_to_numpy(new) - old).max() > 0, new.path
