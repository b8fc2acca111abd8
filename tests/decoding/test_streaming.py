"""Decoding step by step, with the progress in the caller's hands, is the whole call."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.decoding import Beam, Greedy, MinLength, NoRepeatNgrams, Prefix, Sampling
from tests.decoding.languages import Language, arrays

B, V, T, S, P = 7, 5, 4, 3, 2
DECODERS = {
    "greedy": Greedy(),
    "greedy-constrained": Greedy([NoRepeatNgrams(2), MinLength(2)]),
    "sampling": Sampling(temperature=2.0, top_k=4, seed=3),
    "sampling-constrained": Sampling(temperature=2.0, seed=3, constraints=[Prefix([3])]),
    "beam": Beam(3, length_penalty=0.6, num_return=2),
    "beam-constrained": Beam(3, coverage_penalty=0.3, constraints=[NoRepeatNgrams(2), MinLength(2)]),
}
DECODER = pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)


@pytest.fixture
def language(rng):
    return Language(rng, B, V, T, S)


@pytest.fixture
def prompts(rng):
    return rng.integers(0, V, (B, P)).astype("int32")


def assert_equal(found, expected):
    for one, other in zip(arrays(found), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@DECODER
def test_step_by_step_is_the_whole_call(language, prompts, decoder):
    progress = decoder.start(language.step, language.state(), language.start_ids, T, language.end_id, prompts)
    structure = keras.tree.map_structure(lambda x: (tuple(x.shape), str(x.dtype)), progress)
    steps = 1
    while not ops.convert_to_numpy(decoder.finished(progress)):
        progress = decoder.advance(language.step, progress, language.end_id)
        assert keras.tree.map_structure(lambda x: (tuple(x.shape), str(x.dtype)), progress) == structure
        steps += 1
    assert 1 < steps <= T
    assert_equal(decoder.result(progress), language.decode(decoder, prompt_ids=prompts))


@DECODER
def test_to_advance_once_more_changes_no_result(language, prompts, decoder):
    progress = decoder.start(language.step, language.state(), language.start_ids, T, language.end_id, prompts)
    for _ in range(T + 2):
        progress = decoder.advance(language.step, progress, language.end_id)
    assert_equal(decoder.result(progress), language.decode(decoder, prompt_ids=prompts))


@pytest.mark.parametrize("name", ["greedy", "sampling-constrained"])
def test_what_stands_so_far_is_the_beginning_of_the_answer(language, name):
    decoder, whole = DECODERS[name], language.decode(DECODERS[name])
    progress = decoder.start(language.step, language.state(), language.start_ids, T, language.end_id)
    for steps in range(1, T + 1):
        so_far = arrays(decoder.result(progress))
        np.testing.assert_array_equal(so_far.ids[:, :steps], whole.ids[:, :steps])
        assert (so_far.ids[:, steps:] == 0).all()
        np.testing.assert_array_equal(so_far.lengths, np.minimum(whole.lengths, steps))
        chosen, ended = (ops.convert_to_numpy(progress[key]) for key in ("chosen", "ended"))
        np.testing.assert_array_equal(ended, whole.lengths < steps)
        np.testing.assert_array_equal(chosen, np.where(ended, language.end_id, whole.ids[:, steps - 1]))
        progress = decoder.advance(language.step, progress, language.end_id)


@pytest.mark.tensorflow_only
@DECODER
def test_signatures_of_a_saved_model_stream(language, prompts, decoder, tmp_path):
    """`init` and `step` with the whole progress going in and out by name, for batches of any size."""
    import tensorflow as tf

    def flat(progress):  # a signature's tensors have names, not places in a structure
        return {"/".join(map(str, path)): x for path, x in keras.tree.flatten_with_path(progress)}

    @tf.function(autograph=False)
    def init(rows, prompts):
        state = {"row": rows, "node": tf.zeros_like(rows)}
        start_ids = tf.fill(tf.shape(rows), V + 1)
        return flat(decoder.start(language.step, state, start_ids, T, language.end_id, prompts))

    rows = tf.TensorSpec((None,), tf.int32, "rows")
    begun = init.get_concrete_function(rows, tf.TensorSpec((None, P), tf.int32, "prompts"))
    example = decoder.start(language.step, language.state(), language.start_ids, T, language.end_id, prompts)
    specs = {name: tf.TensorSpec(x.shape, x.dtype, name) for name, x in begun.structured_outputs.items()}

    @tf.function(autograph=False)
    def step(**tensors):
        progress = keras.tree.pack_sequence_as(example, list(tensors.values()))
        advanced = decoder.advance(language.step, progress, language.end_id)
        return {**flat(advanced), "finished": decoder.finished(advanced)}

    advanced = step.get_concrete_function(**{name: specs[name] for name in flat(example)})
    tf.saved_model.save(tf.Module(), str(tmp_path), signatures={"init": begun, "step": advanced})
    served = tf.saved_model.load(str(tmp_path)).signatures
    for size in (B, 2):
        tensors = served["init"](rows=tf.range(size), prompts=tf.constant(prompts[:size]))
        for _ in range(T - 1):
            tensors = served["step"](**{name: tensors[name] for name in specs})
        assert bool(tensors["finished"])
        progress = keras.tree.pack_sequence_as(example, [tensors[name] for name in flat(example)])
        whole = language.decode(decoder, prompt_ids=prompts)
        if size == B or not isinstance(decoder, Sampling):  # other rows, other noise
            assert_equal(decoder.result(progress), [x[:size] for x in whole])
