"""What the cells with gates share: the activation of the gates, and products that are normalized."""

import keras
from keras import ops

from keras_seqattn.layers.recurrent.dropout import masked
from keras_seqattn.layers.recurrent.kernel_cell import KernelCell
from keras_seqattn.ops import product


class GatedCell(KernelCell):
    """A `KernelCell` whose units are behind gates. With `layer_norm` both products are normalized, each on its own:

        z = LN(inputs @ kernel) * kernel_gain + bias + LN(h @ recurrent_kernel) * recurrent_gain      eq. (20)

    where LN takes the mean away and divides by the standard deviation, over all gates at once, or apart before and
    after each gate that `normalized_from` names.

    Reference: Ba, Kiros, Hinton 2016, arXiv 1607.06450.
    """

    normalized_from = ()  # indices of gates

    def __init__(self, units, recurrent_activation="sigmoid", layer_norm=False, **kwargs):
        super().__init__(units, **kwargs)
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.layer_norm = layer_norm

    def build(self, input_shape):
        super().build(input_shape)
        if self.layer_norm:
            width = self.num_gates * self.units
            self.kernel_gain = self.add_weight(shape=(width,), initializer="ones", name="kernel_gain")
            self.recurrent_gain = self.add_weight(shape=(width,), initializer="ones", name="recurrent_gain")

    def from_inputs(self, projected):
        """What the inputs add to the gates: normalized in the step, where all parts of the inputs are together."""
        if not self.layer_norm:
            return projected
        z = self.normalized(projected, 0, self.num_gates) * self.kernel_gain
        return z + self.normalized_bias() if self.use_bias else z

    def input_bias(self):
        return None if self.layer_norm else self.bias

    def normalized_bias(self):
        """The bias after the normalized product of the inputs."""
        return self.bias

    def from_state(self, state, first=0, last=None):
        """What the state adds to the gates, or to those from `first` to before `last`: (B, G * U)."""
        last = self.num_gates if last is None else last
        kernel, columns = self.recurrent_kernel, slice(first * self.units, last * self.units)
        if last - first < self.num_gates:
            kernel = kernel[:, columns]
        z = product(masked(state, self.state_mask), kernel)
        return self.normalized(z, first, last) * self.recurrent_gain[columns] if self.layer_norm else z

    def normalized(self, z, first, last):
        """LN of what goes to the gates from `first` to before `last`."""
        starts = [(gate - first) * self.units for gate in self.normalized_from if first < gate < last]
        parts = ops.split(z, starts, axis=-1) if starts else [z]
        parts = [normalized(part) for part in parts]
        return ops.concatenate(parts, axis=-1) if starts else parts[0]

    def get_config(self):
        return {
            **super().get_config(),
            "recurrent_activation": keras.activations.serialize(self.recurrent_activation),
            "layer_norm": self.layer_norm,
        }


def normalized(x):
    """(x - mean) / standard deviation over the last axis, computed in float32 or float64."""
    wide = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
    centred = wide - ops.mean(wide, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
    return ops.cast(centred * ops.rsqrt(variance + 1e-5), x.dtype)  # a product of zeros has no deviation
