import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.decoding import Beam, Greedy
from keras_seqattn.losses import SequenceCrossentropy
from keras_seqattn.models import Seq2Seq, seq2seq
from tests.models.small import (
    END,
    EVERY_ATTENTION,
    EVERY_SETTING,
    SETTINGS,
    SOME_SETTINGS,
    START,
    B,
    C,
    M,
    S,
    T,
    U,
    V,
    known_model,
    log_softmax,
    logits,
    numpy,
    shifted,
    small_model,
    sources,
    targets,
    written,
)

DECODERS = pytest.mark.parametrize(
    "decoder", [Greedy(), Beam(3, length_penalty=0.6)], ids=lambda decoder: type(decoder).__name__
)


def generate(model, source, decoder=None, max_length=T):
    found = model.generate(source, max_length, START, END, decoder)
    return type(found)(*map(numpy, found))


def assert_same(found, expected, steps=slice(None)):
    """Two `Decoded` are equal; of the first one's attention, the part for `steps` of the source."""
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.lengths, expected.lengths)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.attention[..., steps], expected.attention, rtol=1e-4, atol=1e-5)


# Writing step by step


@EVERY_SETTING
def test_teacher_forcing_is_one_step_after_the_other(rng, settings):
    model, source, target = known_model(**settings), sources(rng), targets(rng)
    memory, mask, states = model.encode(source)
    prepared = model.decoder_cell.prepare_memory(memory, mask)
    first = model.decoder_cell.get_initial_state(batch_size=B, memory=prepared)
    states = [*states, *keras.tree.flatten(first)[len(states) :]]  # and what an attention remembers
    nested = keras.tree.pack_sequence_as(first, states)
    expected = logits(model, source, target)
    for t in range(T):
        embedded = model.target_embedding(target[:, t])
        vector, nested, _ = model.decoder_cell.one_step(embedded, nested, prepared)
        np.testing.assert_allclose(numpy(model.output_projection(vector)), expected[:, t], rtol=1e-4, atol=1e-5)


@EVERY_SETTING
@DECODERS
def test_aligning_an_answer_gives_the_attention_that_wrote_it(rng, settings, decoder):
    model, source = known_model(**settings), sources(rng)
    found = generate(model, source, decoder)
    aligned = numpy(model.align(source, shifted(found.ids)))
    expected = np.where(written(found)[:, :, None], aligned, 0)
    np.testing.assert_allclose(found.attention, expected, rtol=1e-4, atol=1e-5)


@EVERY_ATTENTION
def test_a_beam_of_one_is_greedy(rng, settings):
    model, source = known_model(**settings), sources(rng)
    assert_same(generate(model, source, Beam(1)), generate(model, source))


@EVERY_ATTENTION
def test_a_source_of_one_word_is_answered(rng, settings):
    model, source = known_model(**settings), sources(rng)[:, :1]
    for decoder in (Greedy(), Beam(2)):
        found = generate(model, source, decoder)
        assert np.isfinite(found.scores).all()
        assert found.attention.shape == (B, T, 1)


def test_every_attention_is_tried_here():
    assert {settings["attention"] for settings in SETTINGS} == set(seq2seq.ATTENTIONS)


@SOME_SETTINGS
@DECODERS
def test_the_training_graph_gives_an_answer_the_score_that_it_was_written_with(rng, settings, decoder):
    model, source = known_model(**settings), sources(rng)
    found = generate(model, source, decoder)
    scores = logits(model, source, shifted(found.ids))
    scores[:, :, 0] = -1e9  # padding is no word
    log_probs = log_softmax(scores)
    for row in range(B):
        length = found.lengths[row]
        tokens = [*found.ids[row, :length], *([END] if length < T else [])]
        total = sum(log_probs[row, t, token] for t, token in enumerate(tokens))
        penalty = ((5 + len(tokens)) / 6) ** getattr(decoder, "length_penalty", 0)
        np.testing.assert_allclose(found.scores[row], total / penalty, rtol=1e-4)


def test_an_answer_stops_at_the_end_token(rng):
    model, source = small_model(rng), sources(rng)
    bias = model.output_projection.bias
    bias.assign(numpy(bias) + 100 * (np.arange(C) == END))
    found = generate(model, source)
    assert found.lengths.tolist() == [0] * B
    assert not found.ids.any()
    assert not found.attention[:, 1:].any()


@DECODERS
def test_padding_is_no_token_of_an_answer(rng, decoder):
    model, source = small_model(rng), sources(rng)
    bias = model.output_projection.bias
    bias.assign(numpy(bias) + 100 * (np.arange(C) == 0))
    found = generate(model, source, decoder)
    for row in range(B):
        assert found.ids[row, : found.lengths[row]].all()
    assert (found.scores > -1e3).all()


@SOME_SETTINGS
def test_alignments_sum_to_one_over_the_words_and_to_zero_over_padding(rng, settings):
    model, source, target = known_model(**settings), sources(rng), targets(rng)
    aligned = numpy(model.align(source, target))
    assert aligned.shape == (B, T, S)
    words = np.broadcast_to(source[:, None, :] != 0, aligned.shape)
    np.testing.assert_allclose(aligned.sum(axis=-1), 1, rtol=1e-5)
    assert not aligned[~words].any()
    assert (aligned[words] > 0).all()


# Padding and causality


@EVERY_SETTING
def test_padding_of_the_source_counts_for_nothing(rng, settings):
    model, source, target = known_model(**settings), sources(rng), targets(rng)
    expected, aligned = logits(model, source, target), numpy(model.align(source, target))
    for before, behind in ((0, 3), (2, 0)):
        padded = np.pad(source, ((0, 0), (before, behind)))
        words = slice(before, before + S)
        np.testing.assert_allclose(logits(model, padded, target), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(numpy(model.align(padded, target))[..., words], aligned, rtol=1e-4, atol=1e-5)


@DECODERS
def test_padding_of_the_source_changes_no_answer(rng, decoder):
    model, source = known_model(**SETTINGS[0]), sources(rng)
    expected = generate(model, source, decoder)
    padded = generate(model, np.pad(source, ((0, 0), (0, 3))), decoder)
    assert_same(padded, expected, steps=slice(0, S))
    assert not padded.attention[..., S:].any()


@EVERY_SETTING
def test_a_logit_depends_on_no_later_token(rng, settings):
    model, source, target = known_model(**settings), sources(rng), targets(rng)
    expected = logits(model, source, target)
    for first_changed in (1, 3):
        changed = target.copy()
        changed[:, first_changed:] = 3 + (changed[:, first_changed:] + 1) % (C - 3)
        found = logits(model, source, changed)
        np.testing.assert_array_equal(found[:, :first_changed], expected[:, :first_changed])
        assert (np.abs(found[:, first_changed] - expected[:, first_changed]).max(axis=-1) > 1e-3).all()


def test_padding_of_the_target_changes_no_earlier_logit(rng):
    model, source, target = known_model(**SETTINGS[0]), sources(rng), targets(rng)
    padded = np.pad(target, ((0, 0), (0, 3)))
    expected = logits(model, source, target)
    np.testing.assert_allclose(logits(model, source, padded)[:, :T], expected, rtol=1e-5, atol=1e-6)


@DECODERS
def test_each_sentence_is_answered_as_if_alone(rng, decoder):
    model, source = known_model(**SETTINGS[3]), sources(rng)
    together = generate(model, source, decoder)
    for row in range(B):
        alone = generate(model, source[row : row + 1, source[row] != 0], decoder)
        steps = slice(0, alone.attention.shape[-1])
        assert_same(type(alone)(*(x[row : row + 1] for x in together)), alone, steps)


@EVERY_ATTENTION
def test_an_empty_source_gives_finite_answers_and_reads_nothing(rng, settings):
    model, source, target = known_model(**settings), sources(rng), targets(rng)
    emptied = source.copy()
    emptied[1] = 0
    found = logits(model, emptied, target)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[[0, 2]], logits(model, source, target)[[0, 2]], rtol=1e-5, atol=1e-6)
    assert not numpy(model.align(emptied, target))[1].any()
    for decoder in (Greedy(), Beam(2)):
        answers = generate(model, emptied, decoder)
        assert np.isfinite(answers.scores).all()
        assert not answers.attention[1].any()


# In a graph


@pytest.mark.tensorflow_only
@DECODERS
def test_a_graph_of_dynamic_shapes_answers_the_same(rng, decoder):
    import tensorflow as tf

    model, source = known_model(**SETTINGS[3]), sources(rng)

    @tf.function(input_signature=[tf.TensorSpec((None, None), "int32")])
    def answer(ids):
        return model.generate(ids, T, START, END, decoder)

    assert_same(type(generate(model, source))(*map(numpy, answer(source))), generate(model, source, decoder))
    words = source[1:2, :2]
    assert_same(type(generate(model, words))(*map(numpy, answer(words))), generate(model, words, decoder))


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("attention", ["local-m", "location_sensitive", "monotonic"])
def test_in_a_graph_of_dynamic_shapes_an_attention_remembers(rng, attention):
    import tensorflow as tf

    settings = next(settings for settings in SETTINGS if settings["attention"] == attention)
    model, source, decoder = known_model(**settings), sources(rng), Beam(3)
    ids = tf.TensorSpec((None, None), "int32")
    answer = tf.function(lambda ids: model.generate(ids, T, START, END, decoder), input_signature=[ids])
    found = answer(source)
    assert_same(type(found)(*map(numpy, found)), generate(model, source, decoder))


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("settings", [SETTINGS[0], *SETTINGS[-5:]], ids=lambda settings: settings["attention"])
def test_xla_answers_the_same(rng, settings):
    import tensorflow as tf

    model, source, decoder = known_model(**settings), sources(rng), Beam(3)
    answer = tf.function(lambda ids: model.generate(ids, T, START, END, decoder), jit_compile=True)
    found = answer(tf.constant(source))
    assert_same(type(found)(*map(numpy, found)), generate(model, source, decoder))


# Precision and settings


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_gives_finite_float32_logits_near_those_of_float32(rng, policy):
    model, source, target = known_model(**SETTINGS[0]), sources(rng), targets(rng)
    mixed = Seq2Seq(V, C, units=U, embedding_dim=M, dtype=policy)
    mixed.set_weights(model.get_weights())
    source[1] = 0  # an empty one among them
    found = mixed({"source": source, "target": target})
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_allclose(numpy(found), logits(model, source, target), atol=0.1)
    assert {weight.dtype for weight in mixed.weights} == {"float32"}
    for decoder in (Greedy(), Beam(3)):
        assert np.isfinite(generate(mixed, source, decoder).scores).all()


def test_a_precision_policy_is_kept_in_the_config_and_scales_the_loss_of_float16():
    mixed = Seq2Seq(V, C, units=U, dtype="mixed_float16")
    again = Seq2Seq.from_config(mixed.get_config())
    assert again.dtype_policy.name == again.decoder_cell.dtype_policy.name == "mixed_float16"
    again.compile("sgd", SequenceCrossentropy())
    assert isinstance(again.optimizer, keras.optimizers.LossScaleOptimizer)


def test_a_policy_set_for_all_models_holds_here_too(rng):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small_model(rng, num_layers=2)
    finally:
        keras.config.set_dtype_policy(before)
    assert model.decoder_cell.compute_dtype == "bfloat16"
    assert np.isfinite(logits(model, sources(rng), targets(rng))).all()
    assert np.isfinite(generate(model, sources(rng), Beam(2)).scores).all()


def test_a_misspelled_setting_raises():
    with pytest.raises(TypeError, match="dropouts"):
        Seq2Seq(V, C, units=U, dropouts=0.1)


def test_a_frozen_model_stays_frozen_in_its_config():
    frozen = Seq2Seq.from_config(Seq2Seq(V, C, units=U, trainable=False).get_config())
    assert frozen.trainable_variables == []


def test_dropout_acts_in_training_alone(rng):
    model, source, target = small_model(rng, dropout=0.5, num_layers=2), sources(rng), targets(rng)
    plain = Seq2Seq(V, C, units=U, embedding_dim=M, num_layers=2)
    plain.set_weights(model.get_weights())
    expected = logits(plain, source, target)
    np.testing.assert_allclose(logits(model, source, target), expected, rtol=1e-5, atol=1e-6)
    assert_same(generate(model, source), generate(plain, source))
    trained = numpy(model({"source": source, "target": target}, training=True))
    assert np.isfinite(trained).all()
    assert np.abs(trained - expected).max() > 0.01


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"cell": "rnn"}, r"`cell` must be one of 'elman', 'gru', 'lstm'\. Received: cell='rnn'"),
        ({"attention": "loung"}, r"`attention` must be one of .*'general', .*Received: attention='loung'"),
        ({"attention": "local-m", "window": 0}, r"`window` must be an integer of at least 1\. Received: window=0"),
        ({"max_source_length": 0}, r"`max_source_length` must be an integer of at least 1"),
        ({"attention": "monotonic", "score_noise": -1}, r"`noise` is a standard deviation.*Received: noise=-1"),
        ({"attention": "location_sensitive", "location_kernel_size": 4}, r"must be odd\. Received: kernel_size=4"),
        ({"attend": "during"}, r"`attend` must be 'after' or 'before'\. Received: attend='during'"),
        ({"num_layers": 0}, r"`num_layers` must be an integer of at least 1\. Received: num_layers=0"),
        ({"num_layers": 1.5}, r"`num_layers` must be an integer of at least 1\. Received: num_layers=1\.5"),
        ({"units": 0}, r"`units` must be an integer of at least 1\. Received: units=0"),
        ({"embedding_dim": 0}, r"`embedding_dim` must be an integer of at least 1\. Received: embedding_dim=0"),
        ({"source_vocabulary_size": 0}, r"`source_vocabulary_size` must be an integer of at least 1\. Received: .*=0"),
        ({"target_vocabulary_size": "9"}, r"`target_vocabulary_size` must be an integer.* Received: .*='9'"),
        ({"dropout": 1.0}, r"`dropout` is a share in \[0, 1\)\. Received: dropout=1\.0"),
        ({"dropout": -0.1}, r"`dropout` is a share in \[0, 1\)\. Received: dropout=-0\.1"),
    ],
)
def test_a_setting_out_of_its_range_raises(setting, words):
    with pytest.raises(ValueError, match=words):
        Seq2Seq(**{"source_vocabulary_size": V, "target_vocabulary_size": C, "units": U, **setting})


def test_an_answer_of_no_steps_raises(rng):
    with pytest.raises(ValueError, match=r"`max_length` is the number of steps.*Received: max_length=0"):
        known_model(**SETTINGS[0]).generate(sources(rng), 0, START, END)


def test_the_symbolic_shape_is_the_real_one(rng):
    model = known_model(**SETTINGS[0])
    assert model.output_shape == (None, None, C)
    inputs = {name: keras.Input((steps,), dtype="int32") for name, steps in (("source", S), ("target", T))}
    assert tuple(model(inputs).shape) == (None, T, C)
    assert logits(model, sources(rng), targets(rng)).shape == (B, T, C)
    assert ops.shape(model.generate(sources(rng), T, START, END, Beam(3, num_return=2)).attention) == (B, 2, T, S)
