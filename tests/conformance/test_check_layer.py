"""`check_layer` tells layers that break a rule from layers that do not."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.testing import RULES, check_layer

INPUTS = {"inputs": (3, 5, 7)}


@keras.saving.register_keras_serializable(package="tests")
class Scale(keras.layers.Layer):
    """Keeps every rule: inputs times a weight a feature."""

    def __init__(self, initial=1.0, **kwargs):
        super().__init__(**kwargs)
        self.initial = initial
        self.supports_masking = True

    def build(self, inputs_shape):
        self.scale = self.add_weight(shape=(inputs_shape[-1],), initializer=keras.initializers.Constant(self.initial))

    def call(self, inputs):
        return inputs * self.scale

    def get_config(self):
        return {**super().get_config(), "initial": self.initial}


class ForgetsAnArgument(Scale):
    def get_config(self):
        config = super().get_config()
        del config["initial"]
        return config


class IsNotRegistered(Scale):
    pass


class ForetellsAnotherShape(Scale):
    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape[:-1], inputs_shape[-1] + 1)


class NeedsAFixedBatch(Scale):
    def call(self, inputs):
        return ops.reshape(super().call(inputs), (3, -1, 7))


class StopsTheGradient(Scale):
    def call(self, inputs):
        return ops.stop_gradient(super().call(inputs))


class ComputesInFloat32(Scale):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = keras.layers.Dense(7, dtype="float32")

    def build(self, inputs_shape):
        super().build(inputs_shape)
        self.inner.build(inputs_shape)

    def call(self, inputs):
        return self.inner(super().call(inputs))


class MixesRows(Scale):
    def call(self, inputs):
        return super().call(inputs) - ops.mean(inputs, axis=0, keepdims=True)


class IgnoresTheMaskThatIsCarried(Scale):
    def call(self, inputs, inputs_mask=None):  # alone, it would have to be called `mask`
        x = super().call(inputs) + 1.0
        return x if inputs_mask is None else x * ops.cast(inputs_mask, x.dtype)[:, :, None]


BREAKING = {
    "config": (ForgetsAnArgument, INPUTS, "leaves out"),
    "keras_file": (IsNotRegistered, INPUTS, "register"),
    "symbolic": (NeedsAFixedBatch, INPUTS, ""),
    "train_step": (StopsTheGradient, INPUTS, ""),
    "mixed_precision": (ComputesInFloat32, INPUTS, "these layers have another policy"),
    "rows": (MixesRows, INPUTS, "rows"),
    "carried_masks": (
        IgnoresTheMaskThatIsCarried,
        {**INPUTS, "inputs_mask": np.array([[1, 0, 1, 1, 0]] * 3, bool)},
        "with masks on",
    ),
}


def test_a_layer_that_keeps_every_rule_passes():
    check_layer(lambda: Scale(initial=2.0), INPUTS)


@pytest.mark.parametrize("rule", BREAKING)
@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")  # that is what the layer does wrong
def test_a_layer_that_breaks_a_rule_fails_by_its_name(rule):
    make, inputs, words = BREAKING[rule]
    others = set(RULES) - {rule}
    with pytest.raises(AssertionError, match=rf"breaks the rule '{rule}'(.|\n)*{words}"):
        check_layer(make, inputs, skip=others)


def test_a_shape_foretold_wrongly_fails():
    with pytest.raises(AssertionError, match=r"is \(3, 5, 7\) float32, and was foretold as \(3, 5, 8\) float32"):
        check_layer(ForetellsAnotherShape, INPUTS, skip=set(RULES) - {"symbolic"})


def test_an_unknown_rule_raises():
    with pytest.raises(ValueError, match=r"`skip` takes names of rules: config, .*Received: \['speed'\]"):
        check_layer(Scale, INPUTS, skip=["speed"])


@pytest.mark.parametrize("inputs", [{"inputs": (1, 5, 7)}, {"inputs": (2, 5, 7), "mask": np.ones((3, 5), bool)}])
def test_a_batch_of_one_row_or_of_two_sizes_raises(inputs):
    with pytest.raises(ValueError, match="one batch size of at least 2. Received: batch sizes"):
        check_layer(Scale, inputs)
