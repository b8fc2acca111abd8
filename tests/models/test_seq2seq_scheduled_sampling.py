"""`Seq2Seq` under scheduled sampling: the same model, trained otherwise."""

import keras
import numpy as np
import pytest

from keras_seqattn.layers import ScheduledSamplingCell
from keras_seqattn.losses import SequenceCrossentropy
from keras_seqattn.schedules import InverseSigmoidDecay
from tests.models.small import EVERY_ATTENTION, C, T, logits, numpy, small_model, sources, targets


@EVERY_ATTENTION
def test_answers_and_evaluation_do_not_know_of_it(rng, settings):
    model, source, target = small_model(rng, **settings, teacher_forcing=0.5), sources(rng), targets(rng)
    assert isinstance(model.decoder.cell, ScheduledSamplingCell)
    config = {**model.get_config(), "teacher_forcing": 1.0}
    plain = type(model).from_config(config)
    for own, other in zip(parts(plain), parts(model), strict=True):
        own.set_weights(other.get_weights())
    np.testing.assert_allclose(logits(plain, source, target), logits(model, source, target), rtol=1e-5, atol=1e-6)
    a, b = (one.generate(source, T, 1, 2) for one in (plain, model))
    np.testing.assert_array_equal(numpy(a.ids), numpy(b.ids))


def parts(model):
    return [model.encoder, model.target_embedding, model.decoder_cell, model.output_projection]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_it_trains_compiled_and_anneals(rng, jit_compile):
    model = small_model(rng, cell="gru", attention="general", teacher_forcing=InverseSigmoidDecay(10.0))
    model.compile(keras.optimizers.Adam(0.01), SequenceCrossentropy(), jit_compile=jit_compile)
    source, target = sources(rng), targets(rng)
    wanted = rng.integers(3, C, target.shape)
    before = [numpy(weight) for weight in model.trainable_weights]
    history = model.fit({"source": source, "target": target}, wanted, epochs=12, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert int(numpy(model.decoder.cell.training_steps)) == 12
    assert all(np.abs(numpy(new) - old).max() > 0 for old, new in zip(before, model.trainable_weights, strict=True))


def test_a_saved_model_goes_on_from_the_same_share(rng, tmp_path):
    model = small_model(rng, teacher_forcing=InverseSigmoidDecay(3.0))
    model.decoder.cell.training_steps.assign(7)
    source, target = sources(rng), targets(rng)
    expected = logits(model, source, target)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(logits(loaded, source, target), expected, rtol=1e-5)
    assert float(loaded.decoder.cell.probability()) == float(model.decoder.cell.probability())
