"""What the fit loop sets: clipping, the learning rate, XLA; and which settings it refuses."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_seqattn.losses import SequenceCrossentropy
from keras_seqattn.models import Seq2Seq
from keras_seqattn.training.callbacks.checkpoints import saved
from keras_seqattn.training.fit import FitSettings, compile_model, fit
from keras_seqattn.training.recipes import NAMES, config_of, load_recipe
from keras_seqattn.training.run_folder import RunFolder

pytestmark = pytest.mark.tensorflow_only


@pytest.fixture
def model():
    return Seq2Seq(7, 7, units=3, embedding_dim=2)


def one_batch(rng, rows=5, length=4):
    ids = rng.integers(4, 7, (rows, length)).astype("int32")
    return {"source": ids, "target": ids}, ids, np.ones((rows, length), "float32")


@pytest.mark.parametrize("clip_norm", [1e-3, 1e3])
def test_the_norm_of_all_gradients_together_is_clipped(model, rng, clip_norm):
    compile_model(model, FitSettings(clip_norm=clip_norm), steps=100)
    inputs, written, weight = one_batch(rng)
    model.train_on_batch(inputs, written, sample_weight=weight)
    # Adam's first moments after one step are (1 - beta_1) times the gradients that it was given.
    moments = [value.numpy() for value in model.optimizer.variables if value.name.endswith("momentum")]
    norm = np.sqrt(sum(np.sum(moment**2) for moment in moments)) / (1 - model.optimizer.beta_1)
    assert len(moments) == len(model.trainable_variables)
    if clip_norm < 1:
        # This batch has larger gradients. Those of an embedding come in slices, and Keras takes the norm of all slices,
        # before those of one row are added up: hence the tolerance.
        assert norm == pytest.approx(clip_norm, rel=0.05)
    else:
        assert 1e-2 < norm < clip_norm  # smaller ones stay as they are


def test_the_learning_rate_rises_to_its_height_and_falls_to_a_fiftieth(model):
    compile_model(model, FitSettings(learning_rate=0.5, warmup_steps=10), steps=50)
    rate = model.optimizer._learning_rate
    assert [float(rate(step)) for step in (0, 5, 10, 50, 70)] == pytest.approx([0.0, 0.25, 0.5, 0.01, 0.01], abs=1e-6)
    values = [float(rate(step)) for step in range(10, 51)]
    assert values == sorted(values, reverse=True)


def test_a_short_training_warms_up_for_half_of_it_at_most(model):
    compile_model(model, FitSettings(learning_rate=0.5, warmup_steps=400), steps=6)
    rate = model.optimizer._learning_rate
    assert [float(rate(step)) for step in (0, 3, 6)] == pytest.approx([0.0, 0.5, 0.01], abs=1e-6)
    compile_model(model, FitSettings(), steps=1)
    assert np.isfinite(float(model.optimizer.learning_rate))


def test_the_loss_smooths_labels_and_steps_without_weight_do_not_count(model, rng):
    compile_model(model, FitSettings(), steps=10, loss=SequenceCrossentropy(label_smoothing=0.25))
    inputs, written, weight = one_batch(rng)
    weight[:, 2:] = 0
    found = model.evaluate(inputs, written, sample_weight=weight, verbose=0, return_dict=True)
    logits = model.predict(inputs, verbose=0)
    wanted = SequenceCrossentropy(label_smoothing=0.25)(written[:, :2], logits[:, :2])
    assert found["loss"] == pytest.approx(float(wanted), rel=1e-5)
    hits = logits.argmax(-1)[:, :2] == written[:, :2]
    assert found["token_accuracy"] == pytest.approx(hits.mean(), abs=1e-6)


@pytest.mark.parametrize(("xla", "compiled"), [("on", True), ("off", False)])
def test_the_xla_setting_reaches_the_compilation(model, xla, compiled):
    compile_model(model, FitSettings(xla=xla), steps=10)
    assert model.jit_compile is compiled


@pytest.mark.parametrize("name", NAMES)
def test_xla_is_automatic_as_the_recipe_measured_on_a_cpu_and_on_with_an_accelerator(model, name, monkeypatch):
    import tensorflow as tf

    settings = load_recipe(name).Config()
    assert settings.xla == "auto"
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    compile_model(model, settings, steps=10)
    assert model.jit_compile is settings.xla_on_cpu
    assert not FitSettings().use_xla()
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [SimpleNamespace()] * (kind == "GPU"))
    assert FitSettings().use_xla()
    assert not FitSettings(xla="off").use_xla()


@pytest.mark.parametrize(
    ("setting", "value", "rule"),
    [
        ("epochs", 0, "must be at least 1"),
        ("warmup_steps", -1, "must be at least 0"),
        ("seed", -1, "must be at least 0"),
        ("clip_norm", 0.0, "must be above 0"),
        ("clip_norm", float("nan"), "must be above 0"),
        ("learning_rate", -1e-3, "must be above 0"),
    ],
)
def test_settings_out_of_range_are_refused(setting, value, rule):
    with pytest.raises(ValueError, match=rf"`{setting}` {rule}\. Received: {setting}={value}"):
        FitSettings(**{setting: value})


CONFIGS = {
    f"{name}-{model}": config
    for name in NAMES
    for model, config in getattr(load_recipe(name), "MODELS", {"": load_recipe(name).Config}).items()
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_setting_of_a_recipe_with_a_bound_is_checked(name):
    config = CONFIGS[name]
    known = {field.name for field in dataclasses.fields(config)}
    assert set(config.at_least) <= known
    for setting, bound in config.at_least.items():
        with pytest.raises(ValueError, match=f"`{setting}` must be at least {bound}"):
            config(**{setting: bound - 1})


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=rf"The recipes are {', '.join(NAMES)}\. Received: 'poems'"):
        load_recipe("poems")


def test_a_compiled_model_saves_and_loads_with_its_optimizer(model, rng, tmp_path):
    compile_model(model, FitSettings(), steps=10)
    inputs, written, weight = one_batch(rng)
    model.train_on_batch(inputs, written, sample_weight=weight)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    assert loaded.optimizer.global_clipnorm == FitSettings.clip_norm


def test_by_the_inverse_square_root_the_learning_rate_halves_in_four_times_the_warm_up(model):
    compile_model(model, FitSettings(learning_rate=0.5, warmup_steps=10, schedule="inverse_sqrt"), steps=100)
    rate = model.optimizer._learning_rate
    assert [float(rate(step)) for step in (0, 5, 10, 40, 90)] == pytest.approx(
        [0.0, 0.25, 0.5, 0.25, 0.5 / 3], abs=1e-6
    )


def test_weight_decay_acts_on_kernels_alone(model):
    compile_model(model, FitSettings(weight_decay=0.5, learning_rate=1.0, warmup_steps=0), steps=100)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    model.optimizer.apply([np.zeros(v.shape, "float32") for v in model.trainable_variables], model.trainable_variables)
    rate = 1.0  # of the first step
    for variable in model.trainable_variables:
        is_kernel = len(variable.shape) > 1 and "embedding" not in variable.path
        share = 1 - 0.5 * rate if is_kernel else 1
        np.testing.assert_allclose(variable.numpy(), share * before[variable.path], rtol=1e-5, err_msg=variable.path)


@pytest.mark.parametrize("kept", [1, 3])
def test_the_trained_model_is_the_mean_of_the_last_checkpoints(model, rng, tmp_path, kept):
    import tensorflow as tf

    batch = one_batch(rng)
    data = tf.data.Dataset.from_tensors(batch)
    settings = FitSettings(epochs=4, learning_rate=0.1, warmup_steps=0, average_checkpoints=kept)
    run = RunFolder.start(tmp_path / "run", settings.recorded())
    figures = fit(model, lambda first_epoch: data.repeat(4 - first_epoch), 1, data, settings, run)
    trained = [v.numpy() for v in model.trainable_variables]
    assert [epoch for _, epoch in saved(run)] == [1, 2, 3, 4][-kept:]
    epochs = [[v.numpy() for v in keras.saving.load_model(path).trainable_variables] for path, _ in saved(run)]
    for index, weight in enumerate(trained):
        np.testing.assert_allclose(weight, np.mean([one[index] for one in epochs], axis=0), rtol=1e-5, atol=1e-6)
    assert ("averaged_val_loss" in figures) == (kept > 1)
    if kept > 1:
        assert max(np.abs(a - b).max() for a, b in zip(epochs[0], epochs[-1], strict=True)) > 1e-2


@pytest.mark.parametrize(("name", "model"), [("translate", "transformer"), ("language_model", "gpt")])
def test_a_recipe_has_settings_of_its_own_for_each_kind_of_model(name, model):
    recipe = load_recipe(name)
    assert config_of(recipe, None) is recipe.Config
    assert config_of(recipe, model)().model == model
    with pytest.raises(ValueError, match=f"The models of {name} are .*{model}.*model='abacus'"):
        config_of(recipe, "abacus")
