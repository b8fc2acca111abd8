import numpy as np
import pytest
from keras import ops

from keras_seqattn.ops import alibi_bias, alibi_slopes, relative_buckets, rotary, sinusoids
from keras_seqattn.ops.positions import distances_of
from tests.reference import multi_head_attention as reference
from tests.reference.arrays import B, S, T, normal

H, K = 4, 6


def numpy(x):
    return ops.convert_to_numpy(x)


def test_rotary_turns_each_pair_of_features_by_its_angle(rng):
    x, positions = normal(rng, B, T, H, K), np.array([0, 3, 100])
    found = rotary(ops.convert_to_tensor(x), ops.convert_to_tensor(positions), max_wavelength=500.0)
    np.testing.assert_allclose(numpy(found), reference.rotated(x, positions, 500.0), rtol=1e-4, atol=1e-4)


def test_rotary_products_depend_on_the_distance_alone(rng):
    query, key = (ops.convert_to_tensor(normal(rng, B, T, H, K)) for _ in range(2))
    steps = ops.arange(T)
    near, far = (
        ops.einsum("bthk,bshk->bhts", rotary(query, steps + shift), rotary(key, steps + shift)) for shift in (0, 17)
    )
    np.testing.assert_allclose(numpy(near), numpy(far), rtol=1e-4, atol=1e-5)


def test_rotary_takes_positions_for_each_row(rng):
    x = normal(rng, B, T, H, K)
    rows = np.array([[0, 1, 2], [5, 6, 7]])
    found = numpy(rotary(ops.convert_to_tensor(x), ops.convert_to_tensor(rows)))
    for b in range(B):
        np.testing.assert_allclose(found[b], reference.rotated(x[b : b + 1], rows[b])[0], rtol=1e-4, atol=1e-5)


def test_rotary_equals_that_of_transformers(rng):
    torch = pytest.importorskip("torch")
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    x, positions = normal(rng, B, T, H, K), np.array([2, 3, 4])
    angles = torch.tensor(positions)[:, None] * 10000.0 ** (-torch.arange(0, K, 2) / K)
    angles = torch.cat([angles, angles], dim=-1)[None]
    theirs, _ = llama.apply_rotary_pos_emb(torch.tensor(x), torch.tensor(x), angles.cos(), angles.sin(), 2)
    found = rotary(ops.convert_to_tensor(x), ops.convert_to_tensor(positions))
    np.testing.assert_allclose(numpy(found), theirs.numpy(), rtol=1e-5, atol=1e-5)


def test_an_odd_width_cannot_turn_in_pairs():
    with pytest.raises(
        ValueError, match="Rotary positions turn features in pairs, so the width of a head must be even"
    ):
        rotary(ops.ones((B, T, H, 5)), ops.arange(T))


def test_alibi_slopes_of_eight_heads_are_those_of_the_paper():
    np.testing.assert_allclose(alibi_slopes(8), [2.0**-h for h in range(1, 9)])


@pytest.mark.parametrize("num_heads", [1, 2, 3, 5, 8, 12, 20])
def test_alibi_slopes_equal_those_of_transformers(num_heads):
    torch = pytest.importorskip("torch")
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    theirs = bloom.build_alibi_tensor(torch.ones(1, 2, dtype=torch.int64), num_heads, torch.float32)  # (H, 1, 2)
    np.testing.assert_allclose(alibi_slopes(num_heads), theirs[:, 0, 1].numpy(), rtol=1e-6)


def test_alibi_falls_with_distance_on_either_side():
    found = numpy(alibi_bias(ops.convert_to_tensor(np.array([-3, 0, 2], "int32")), 2))
    np.testing.assert_allclose(found, [[-3 / 16, 0, -2 / 16], [-3 / 256, 0, -2 / 256]])


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (32, 20), (8, 50), (5, 7)])
def test_relative_buckets_equal_those_of_transformers(bidirectional, num_buckets, max_distance):
    torch = pytest.importorskip("torch")
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    distances = np.arange(-300, 300)
    theirs = t5.T5Attention._relative_position_bucket(
        torch.tensor(distances), bidirectional, num_buckets, max_distance
    ).numpy()
    found = relative_buckets(ops.convert_to_tensor(distances.astype("int32")), num_buckets, max_distance, bidirectional)
    np.testing.assert_array_equal(numpy(found), theirs)


def test_distances_come_in_the_order_of_the_bias_by_distance():
    found = numpy(distances_of(T, S, offset=2))
    for t in range(T):
        for s in range(S):
            assert found[s - t + T - 1] == s - (t + 2)


def test_sinusoids_are_those_of_the_paper():
    positions, width = [0, 1, 50], 7
    expected = [
        [(np.cos if i % 2 else np.sin)(position / 10000 ** (2 * (i // 2) / width)) for i in range(width)]
        for position in positions
    ]
    np.testing.assert_allclose(numpy(sinusoids(ops.convert_to_tensor(positions), width)), expected, atol=1e-5)
