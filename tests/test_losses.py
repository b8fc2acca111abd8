import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.losses import SequenceCrossentropy

B, T, C = 3, 5, 7
SMOOTHING = pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.7])


@pytest.fixture
def y_true(rng):
    return rng.integers(0, C, size=(B, T)).astype("int32")


@pytest.fixture
def logits(rng):
    return (3 * rng.normal(size=(B, T, C))).astype("float32")


@pytest.fixture
def keep(rng):
    return np.arange(T) < np.array([[5], [2], [3]])


def loss_of_each_step(y_true, logits, label_smoothing):
    """Szegedy et al. 2016, sec. 7: cross-entropy with (1 - e) of the target on its class and e spread evenly."""
    losses = np.zeros(y_true.shape)
    for place in np.ndindex(y_true.shape):
        x = logits[place].astype("float64")
        log_probs = x - x.max() - np.log(np.sum(np.exp(x - x.max())))
        for c in range(len(x)):
            share = (1 - label_smoothing) * (c == y_true[place]) + label_smoothing / len(x)
            losses[place] -= share * log_probs[c]
    return losses


def gradient(loss, x):
    """Of `loss(x)`, a scalar, by the backend."""
    tensor = ops.convert_to_tensor(x)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensor)
            value = loss(tensor)
        return tape.gradient(value, tensor).numpy()
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(loss)(tensor))
    tensor = tensor.detach().clone().requires_grad_(True)
    loss(tensor).backward()
    return tensor.grad.cpu().numpy()


@SMOOTHING
def test_each_step_costs_what_the_paper_says(y_true, logits, label_smoothing):
    found = SequenceCrossentropy(label_smoothing, reduction=None)(y_true, logits)
    expected = loss_of_each_step(y_true, logits, label_smoothing)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-5, atol=1e-6)


@SMOOTHING
def test_it_equals_the_crossentropy_of_keras_on_one_hot_targets(y_true, logits, label_smoothing):
    theirs = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=label_smoothing)
    expected = theirs(np.eye(C, dtype="float32")[y_true], logits)
    np.testing.assert_allclose(float(SequenceCrossentropy(label_smoothing)(y_true, logits)), float(expected), rtol=1e-5)


@SMOOTHING
@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_a_masked_step_counts_as_if_it_were_not_there(y_true, logits, keep, label_smoothing, dtype):
    loss = SequenceCrossentropy(label_smoothing)
    masked = loss(y_true, logits, sample_weight=keep.astype(dtype))
    removed = loss(y_true[keep][None], logits[keep][None])
    np.testing.assert_allclose(float(masked), float(removed), rtol=1e-5)
    expected = loss_of_each_step(y_true, logits, label_smoothing)[keep].mean()  # over tokens, not over sentences
    np.testing.assert_allclose(float(masked), expected, rtol=1e-5)


def test_what_stands_at_a_masked_step_does_not_matter(y_true, logits, keep):
    loss = SequenceCrossentropy(0.1)
    expected = float(loss(y_true, logits, sample_weight=keep))
    other_ids, other_logits = np.where(keep, y_true, 0), np.where(keep[..., None], logits, -3 * logits + 1)
    np.testing.assert_allclose(float(loss(other_ids, other_logits, sample_weight=keep)), expected, rtol=1e-6)


def test_the_mask_that_the_logits_carry_counts_too(y_true, logits, keep):
    masked = keras.layers.Masking(mask_value=99.0)(np.where(keep[..., None], logits, 99.0).astype("float32"))
    loss = SequenceCrossentropy(0.1)
    expected = loss_of_each_step(y_true, logits, 0.1)
    np.testing.assert_allclose(float(loss(y_true, masked)), expected[keep].mean(), rtol=1e-5)
    first = np.broadcast_to(np.arange(T) < 1, keep.shape)  # weights and mask together
    found = loss(y_true, masked, sample_weight=first.astype("float32"))
    np.testing.assert_allclose(float(found), expected[:, 0].mean(), rtol=1e-5)


def test_weights_make_it_a_weighted_mean(rng, y_true, logits):
    weights = rng.uniform(size=(B, T)).astype("float32")
    expected = np.average(loss_of_each_step(y_true, logits, 0.1), weights=weights)
    found = SequenceCrossentropy(0.1)(y_true, logits, sample_weight=weights)
    np.testing.assert_allclose(float(found), expected, rtol=1e-5)


def test_when_no_step_counts_the_loss_is_zero(y_true, logits):
    assert float(SequenceCrossentropy(0.1)(y_true, logits, sample_weight=np.zeros((B, T)))) == 0


@pytest.mark.parametrize(
    ("reduction", "reduce"),
    [
        ("sum", lambda losses, keep: losses[keep].sum()),
        ("mean_with_sample_weight", lambda losses, keep: losses[keep].mean()),
        ("sum_over_batch_size", lambda losses, keep: losses[keep].sum() / keep.size),
        ("none", lambda losses, keep: losses * keep),
    ],
)
def test_a_reduction_does_what_it_is_called(y_true, logits, keep, reduction, reduce):
    found = SequenceCrossentropy(0.1, reduction=reduction)(y_true, logits, sample_weight=keep.astype("float32"))
    expected = reduce(loss_of_each_step(y_true, logits, 0.1), keep)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-5, atol=1e-6)


@SMOOTHING
def test_the_gradient_is_probability_less_target(y_true, logits, keep, label_smoothing):
    """d loss / d logits = softmax(logits) - smoothed target, over the number of steps that count."""
    loss = SequenceCrossentropy(label_smoothing)
    found = gradient(lambda x: loss(y_true, x, sample_weight=keep.astype("float32")), logits)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    target = (1 - label_smoothing) * np.eye(C)[y_true] + label_smoothing / C
    expected = (probabilities - target) * keep[..., None] / keep.sum()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@SMOOTHING
def test_large_half_precision_logits_stay_finite_and_exact(y_true, logits, label_smoothing):
    half = (logits / np.abs(logits).max() * 65504).astype("float16")
    expected = loss_of_each_step(y_true, half, label_smoothing)
    found = SequenceCrossentropy(label_smoothing, reduction=None)(y_true, ops.convert_to_tensor(half))
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-4, atol=1e-2)
    loss = SequenceCrossentropy(label_smoothing)
    assert np.isfinite(gradient(lambda x: loss(y_true, x), half.astype("float32"))).all()


def test_a_token_that_is_nearly_certain_costs_nearly_nothing():
    logits = np.array([[[0.0, 1000.0, -1000.0]]], "float32")
    assert float(SequenceCrossentropy()(np.array([[1]]), logits)) == 0
    np.testing.assert_allclose(float(SequenceCrossentropy()(np.array([[2]]), logits)), 2000)


def test_it_comes_back_from_its_config():
    loss = SequenceCrossentropy(0.2, reduction="sum", name="cost")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(again, SequenceCrossentropy)
    assert (again.label_smoothing, again.reduction, again.name) == (0.2, "sum", "cost")
    assert again.get_config() == loss.get_config()


def test_a_model_trains_with_it_and_is_saved_with_it(rng, y_true, keep, tmp_path):
    x = rng.normal(size=(B, T, 11)).astype("float32")
    model = keras.Sequential([keras.Input((None, 11)), keras.layers.Dense(C)])
    model.compile(keras.optimizers.Adam(0.1), SequenceCrossentropy(0.1), jit_compile=False)
    weights = keep.astype("float32")
    expected = loss_of_each_step(y_true, np.asarray(model.predict(x, verbose=0)), 0.1)[keep].mean()
    np.testing.assert_allclose(model.evaluate(x, y_true, sample_weight=weights, verbose=0), expected, rtol=1e-5)
    history = model.fit(x, y_true, sample_weight=weights, epochs=20, verbose=0).history["loss"]
    np.testing.assert_allclose(history[0], expected, rtol=1e-5)
    assert history[-1] < history[0] / 2

    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.loss.label_smoothing == 0.1
    losses = [m.evaluate(x, y_true, sample_weight=weights, verbose=0) for m in (model, again)]
    np.testing.assert_allclose(*losses, rtol=1e-6)


@pytest.mark.parametrize("label_smoothing", [-0.1, 1.0, float("nan")])
def test_a_smoothing_that_is_no_share_raises(label_smoothing):
    with pytest.raises(ValueError, match=rf"`label_smoothing` is a share in \[0, 1\)\. .*={label_smoothing}"):
        SequenceCrossentropy(label_smoothing)


@SMOOTHING
def test_over_sequences_it_is_the_mean_of_what_each_sequence_costs(y_true, logits, keep, label_smoothing):
    loss = SequenceCrossentropy(label_smoothing, reduction="mean_over_sequences")
    costs = [loss_of_each_step(y_true, logits, label_smoothing)[row, kept].sum() for row, kept in enumerate(keep)]
    np.testing.assert_allclose(float(loss(y_true, logits, sample_weight=keep)), np.mean(costs), rtol=1e-5)
    alone = [float(loss(y_true[row : row + 1, kept], logits[row : row + 1, kept])) for row, kept in enumerate(keep)]
    np.testing.assert_allclose(alone, costs, rtol=1e-5)


def test_over_sequences_an_empty_one_is_not_there(y_true, logits, keep):
    loss = SequenceCrossentropy(0.1, reduction="mean_over_sequences")
    keep = keep & np.array([[True], [False], [True]])
    expected = loss(y_true[[0, 2]], logits[[0, 2]], sample_weight=keep[[0, 2]])
    np.testing.assert_allclose(float(loss(y_true, logits, sample_weight=keep)), float(expected), rtol=1e-6)
    assert float(loss(y_true, logits, sample_weight=np.zeros((B, T)))) == 0


def test_over_sequences_masks_and_weights_of_sequences_count(y_true, logits, keep):
    loss = SequenceCrossentropy(reduction="mean_over_sequences")
    masked = keras.layers.Masking(mask_value=99.0)(np.where(keep[..., None], logits, 99.0).astype("float32"))
    np.testing.assert_allclose(float(loss(y_true, masked)), float(loss(y_true, logits, sample_weight=keep)), rtol=1e-6)
    costs = loss_of_each_step(y_true, logits, 0.0).sum(axis=1)
    found = loss(y_true, logits, sample_weight=np.array([0.5, 0.0, 2.0], "float32"))
    np.testing.assert_allclose(float(found), (0.5 * costs[0] + 2 * costs[2]) / 2, rtol=1e-5)


def test_a_weight_for_each_sequence_is_one_for_each_of_its_steps(y_true, logits):
    weights = np.array([0.5, 0.0, 2.0], "float32")
    expected = SequenceCrossentropy(0.1)(y_true, logits, sample_weight=np.tile(weights[:, None], (1, T)))
    np.testing.assert_allclose(
        float(SequenceCrossentropy(0.1)(y_true, logits, sample_weight=weights)), float(expected), rtol=1e-6
    )


def test_over_sequences_survives_its_config_and_trains(y_true, logits):
    loss = SequenceCrossentropy(0.1, reduction="mean_over_sequences")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert float(again(y_true, logits)) == float(loss(y_true, logits))
    with pytest.raises(ValueError, match="reduction"):
        SequenceCrossentropy(reduction="mean_over_days")
