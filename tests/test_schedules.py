import keras
import numpy as np
import pytest

from keras_seqattn.schedules import InverseSigmoidDecay, InverseSquareRootDecay


@pytest.mark.parametrize("k", [1.0, 10.0, 1000.0])
def test_inverse_sigmoid_decay_is_the_papers_formula(k):
    schedule = InverseSigmoidDecay(k)
    for step in (0, 1, 7, 40, 500):
        expected = k / (k + np.exp(min(step / k, 700)))
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-4, abs=1e-30)


def test_it_stays_finite_long_after_and_survives_its_config():
    schedule = InverseSigmoidDecay(2.0)
    assert float(schedule(10**9)) == 0
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert float(again(3)) == float(schedule(3))


def test_k_below_one_is_refused():
    with pytest.raises(ValueError, match="`k` must be at least 1. Received: k=0.5"):
        InverseSigmoidDecay(0.5)


def test_inverse_square_root_decay_is_the_papers_formula():
    model_dim, warmup = 512, 4000
    schedule = InverseSquareRootDecay((model_dim * warmup) ** -0.5, warmup)
    for step in (1, 100, 4000, 4001, 100_000):
        expected = model_dim**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert float(again(7)) == float(schedule(7))
    assert float(InverseSquareRootDecay(2.0, 0)(4)) == 1.0
    with pytest.raises(ValueError, match="`learning_rate` must be above 0"):
        InverseSquareRootDecay(0.0, 10)
    with pytest.raises(ValueError, match="`warmup_steps` must be at least 0"):
        InverseSquareRootDecay(1.0, -1)
