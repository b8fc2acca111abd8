"""Blocks against PyTorch's with the same weights, and what must hold whatever the weights are."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.layers import (
    FeedForward,
    LearnedPositions,
    SinusoidalPositions,
    TokenEmbedding,
    TransformerDecoder,
    TransformerEncoder,
)
from tests.layers.paper_weights import numpy, randomize
from tests.reference.arrays import S, T, normal

B, D, F, H, C = 2, 12, 13, 3, 19
MASK = np.array([[1, 1, 0], [1, 1, 1]], bool)
MEMORY_MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
BOTH_NORMS = pytest.mark.parametrize("normalize_first", [False, True], ids=["post_norm", "pre_norm"])


def close(actual, expected, atol=1e-5):
    np.testing.assert_allclose(numpy(actual), expected, rtol=1e-5, atol=atol)


def randomized(layer, rng, *inputs):
    layer(*inputs)
    randomize(layer, rng)
    return layer


def copy_attention(theirs, ours):
    """Our query, key, value and output kernels as rows of `torch.nn.MultiheadAttention`."""
    torch = pytest.importorskip("torch")
    kernels = [numpy(dense.kernel).reshape(D, -1).T for dense in (ours.query_dense, ours.key_dense, ours.value_dense)]
    biases = [numpy(dense.bias).reshape(-1) for dense in (ours.query_dense, ours.key_dense, ours.value_dense)]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.tensor(np.concatenate(kernels)))
        theirs.in_proj_bias.copy_(torch.tensor(np.concatenate(biases)))
        theirs.out_proj.weight.copy_(torch.tensor(numpy(ours.output_dense.kernel).reshape(-1, D).T))
        theirs.out_proj.bias.copy_(torch.tensor(numpy(ours.output_dense.bias)))


def copy_rest(theirs, ours, norms):
    torch = pytest.importorskip("torch")
    pairs = [(theirs.linear1, ours.feed_forward.inner), (theirs.linear2, ours.feed_forward.outer)]
    with torch.no_grad():
        for linear, dense in pairs:
            linear.weight.copy_(torch.tensor(numpy(dense.kernel).T))
            linear.bias.copy_(torch.tensor(numpy(dense.bias)))
        for index, norm in enumerate(norms, start=1):
            getattr(theirs, f"norm{index}").weight.copy_(torch.tensor(numpy(norm.gamma)))
            getattr(theirs, f"norm{index}").bias.copy_(torch.tensor(numpy(norm.beta)))


def settings(normalize_first):
    return {"dropout": 0.0, "norm_first": normalize_first, "batch_first": True, "layer_norm_eps": 1e-6}


@BOTH_NORMS
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_an_encoder_block_equals_that_of_pytorch(rng, normalize_first, activation):
    torch = pytest.importorskip("torch")
    x = normal(rng, B, T, D)
    ours = randomized(TransformerEncoder(H, F, activation=activation, normalize_first=normalize_first), rng, x)
    theirs = torch.nn.TransformerEncoderLayer(D, H, F, activation=activation, **settings(normalize_first))
    copy_attention(theirs.self_attn, ours.self_attention)
    copy_rest(theirs, ours, [ours.self_attention_norm, ours.feed_forward_norm])
    theirs.train()  # the same without dropout, and without PyTorch's shortcut, which fills masked rows with zeros
    expected = theirs(torch.tensor(x), src_key_padding_mask=torch.tensor(~MASK)).detach().numpy()
    close(ours(x, mask=MASK), expected)


@BOTH_NORMS
def test_a_decoder_block_equals_that_of_pytorch(rng, normalize_first):
    torch = pytest.importorskip("torch")
    x, memory = normal(rng, B, T, D), normal(rng, B, S, D)
    ours = randomized(TransformerDecoder(H, F, normalize_first=normalize_first), rng, x, memory)
    theirs = torch.nn.TransformerDecoderLayer(D, H, F, **settings(normalize_first))
    copy_attention(theirs.self_attn, ours.self_attention)
    copy_attention(theirs.multihead_attn, ours.cross_attention)
    copy_rest(theirs, ours, [ours.self_attention_norm, ours.cross_attention_norm, ours.feed_forward_norm])
    causal = torch.nn.Transformer.generate_square_subsequent_mask(T) < 0
    expected = theirs(
        torch.tensor(x), torch.tensor(memory), tgt_mask=causal, memory_key_padding_mask=torch.tensor(~MEMORY_MASK)
    )
    close(ours(x, memory, memory_mask=MEMORY_MASK), expected.detach().numpy())


@pytest.mark.parametrize("gated", [False, True])
def test_feed_forward_follows_its_formula(rng, gated):
    x = normal(rng, B, T, D)
    layer = randomized(FeedForward(F, "silu", gated=gated), rng, x)
    inner = x @ numpy(layer.inner.kernel) + numpy(layer.inner.bias)
    bent = x @ numpy(layer.gate.kernel) + numpy(layer.gate.bias) if gated else inner
    hidden = bent / (1 + np.exp(-bent)) * (inner if gated else 1)
    close(layer(x), hidden @ numpy(layer.outer.kernel) + numpy(layer.outer.bias))


def test_gelu_tanh_is_that_of_gpt2(rng):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from keras_seqattn.layers.transformer.feed_forward import gelu_tanh

    x = normal(rng, 100) * 4
    close(gelu_tanh(ops.convert_to_tensor(x)), transformers.activations.ACT2FN["gelu_new"](torch.tensor(x)).numpy())


DECODERS = [
    {},
    {"positions": "rotary", "num_kv_heads": 1, "normalize_first": True},
    {"positions": "alibi", "sliding_window": 2},
    {"positions": "relative", "normalize_first": True, "normalization": "rms"},
]


@pytest.mark.parametrize("options", DECODERS, ids=lambda options: options.get("positions", "plain"))
@pytest.mark.parametrize("has_memory", [False, True])
def test_steps_with_caches_give_the_outputs_of_all_at_once(rng, options, has_memory):
    x, memory = normal(rng, B, 5, D), normal(rng, B, S, D) if has_memory else None
    block = randomized(TransformerDecoder(H, F, key_dim=4, **options), rng, x, memory)
    expected = numpy(block(x, memory, memory_mask=MEMORY_MASK if has_memory else None))
    cache, found = block.get_initial_cache(B, 5), []
    memory_cache = block.make_memory_cache(memory, MEMORY_MASK) if has_memory else None
    for start, stop in ((0, 2), (2, 3), (3, 4), (4, 5)):  # several steps first, then one by one
        y, cache = block(x[:, start:stop], cache=cache, cache_index=start, memory_cache=memory_cache)
        found.append(numpy(y))
    close(np.concatenate(found, axis=1), expected)


@pytest.mark.parametrize("options", DECODERS, ids=lambda options: options.get("positions", "plain"))
@pytest.mark.parametrize("returns_scores", [False, True])
def test_what_comes_later_changes_nothing_before_under_dropout_too(rng, options, returns_scores):
    x = normal(rng, B, 5, D)
    later = x.copy()
    later[:, 3:] += 1
    options = {**options, "dropout": 0.3, "attention_dropout": 0.3, "activation_dropout": 0.3, "seed": 3}

    def outputs(x):
        keras.utils.set_random_seed(0)
        block = TransformerDecoder(H, F, key_dim=4, **options)
        return numpy(block(x, return_attention_scores=returns_scores, training=True)[0 if returns_scores else ...])

    np.testing.assert_array_equal(outputs(x)[:, :3], outputs(later)[:, :3])
    assert np.abs(outputs(x) - outputs(later))[:, 3:].max() > 0.1


def test_the_gradient_is_the_same_rematerialized_or_not_under_dropout_too(rng):
    x = normal(rng, B, T, D)

    def gradients(rematerialize):
        keras.utils.set_random_seed(0)
        rates = {"dropout": 0.4, "attention_dropout": 0.4, "activation_dropout": 0.4}
        block = TransformerEncoder(H, F, **rates, rematerialize=rematerialize, seed=3)
        inputs = keras.Input((T, D))
        model = keras.Model(inputs, block(inputs))
        model.compile(keras.optimizers.SGD(1.0), "mse")
        before = [numpy(weight) for weight in block.trainable_weights]
        model.fit(x, np.zeros_like(x), batch_size=B, verbose=0, shuffle=False)
        return [old - numpy(new) for old, new in zip(before, block.trainable_weights, strict=True)]

    plain, again = gradients(False), gradients(True)
    assert max(np.abs(gradient).max() for gradient in plain) > 1e-3
    for a, b in zip(plain, again, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_padding_counts_for_nothing(rng):
    x, memory = normal(rng, B, T, D), normal(rng, B, S, D)
    encoder = randomized(TransformerEncoder(H, F), rng, x)
    decoder = randomized(TransformerDecoder(H, F), rng, x, memory)
    close(encoder(x, mask=MASK)[:1, :2], numpy(encoder(x[:1, :2])))
    close(decoder(x[:1], memory[:1], memory_mask=MEMORY_MASK[:1]), numpy(decoder(x[:1], memory[:1, :3])))


def test_scores_of_asked_rows_are_rows_of_all_scores(rng):
    x, memory = normal(rng, B, T, D), normal(rng, B, S, D)
    block = randomized(TransformerDecoder(H, F), rng, x, memory)
    _, own, cross = block(x, memory, return_attention_scores=True)
    _, last_own, last_cross = block(x, memory, return_attention_scores=True, score_rows=[-1])
    close(last_own, numpy(own)[:, :, -1:])
    close(last_cross, numpy(cross)[:, :, -1:])


def test_sinusoidal_positions_follow_the_paper(rng):
    x = normal(rng, B, T, D)
    waves = np.zeros((T, D))
    for position in range(T):
        for i in range(D // 2):
            waves[position, 2 * i] = np.sin(position / 10000 ** (2 * i / D))
            waves[position, 2 * i + 1] = np.cos(position / 10000 ** (2 * i / D))
    close(SinusoidalPositions()(x), x + waves)
    close(SinusoidalPositions()(x, np.array([2, 0, 1])), x + waves[[2, 0, 1]])


def test_learned_positions_add_a_row_of_their_table(rng):
    x = normal(rng, B, T, D)
    layer = randomized(LearnedPositions(5), rng, x)
    close(layer(x), x + numpy(layer.embeddings)[:T])
    positions = np.array([[4, 0, 1], [2, 2, 3]])
    close(layer(x, positions), x + numpy(layer.embeddings)[positions])


def test_tokens_are_read_and_written_by_one_matrix(rng):
    ids, x = rng.integers(C, size=(B, T)), normal(rng, B, T, D)
    layer = randomized(TokenEmbedding(C, D, scale=True), rng, ids)
    (matrix,) = (numpy(weight) for weight in layer.weights)
    close(layer(ids), matrix[ids] * np.sqrt(D))
    close(layer(x, reverse=True), x @ matrix.T)
    apart = TokenEmbedding(C, D, tie_weights=False)
    apart(ids)
    close(apart(x, reverse=True), x @ numpy(apart.reverse_embeddings))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TransformerEncoder(0, F), "`num_heads` must be an integer of at least 1"),
        (lambda: TransformerEncoder(5, F)(np.zeros((B, T, D))), "`num_heads` must divide it.*width=12, num_heads=5"),
        (lambda: TransformerEncoder(H, F, dropout=1.0), "`dropout` is a rate"),
        (lambda: TransformerEncoder(H, F, normalization="batch"), "`normalization` must be one of 'layer', 'rms'"),
        (lambda: FeedForward(0), "`feed_forward_dim` is a width"),
        (lambda: LearnedPositions(2)(np.zeros((B, T, D))), "3 steps, max_length=2"),
        (lambda: SinusoidalPositions(0), "`max_wavelength` must be above 0"),
    ],
)
def test_what_does_not_go_together_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_memory_is_given_always_or_never(rng):
    x, memory = normal(rng, B, T, D), normal(rng, B, S, D)
    alone, reading = TransformerDecoder(H, F), TransformerDecoder(H, F)
    alone(x)
    reading(x, memory)
    with pytest.raises(ValueError, match="built without a memory"):
        alone(x, memory)
    with pytest.raises(ValueError, match="`memory` or `memory_cache` must be given"):
        reading(x)
