"""The gated recurrent unit."""

import keras
from keras import ops

from keras_seqattn.layers.recurrent.gated import KernelCell


@keras.saving.register_keras_serializable(package="keras_seqattn")
class GRUCell(KernelCell):
    """The gated recurrent unit: one gate says how much of the state stays, another how much of it is read.

        update_gate = recurrent_activation(x_z + state @ U_z)                        eq. (6)
        reset_gate  = recurrent_activation(x_r + state @ U_r)                        eq. (5)
        candidate   = activation(x_h + reset_gate * (state @ U_h + b_h))             eq. (8), reset after
        candidate   = activation(x_h + (reset_gate * state) @ U_h)                   eq. (8), reset before
        state       = update_gate * state + (1 - update_gate) * candidate            eq. (7)

    with [x_z, x_r, x_h] = inputs @ kernel + bias. Weights have Keras's layout and order (update, reset, candidate), so
    they can be copied from and to `keras.layers.GRUCell`.

    Args:
        units: int, width U of the state, at least 1.
        activation: of the candidate.
        recurrent_activation: of the gates.
        use_bias: bool.
        kernel_initializer, recurrent_initializer, bias_initializer: Keras initializers.
        reset_after: bool, whether the reset gate multiplies after the product with U_h (as cuDNN, PyTorch and Keras
            do) or before it (as the paper).
    Call arguments:
        inputs: (B, D) float, one step.
        states: list of one (B, U) float.
    Returns: output (B, U), which is the state, and the list of states.
        Trace: `reset_gate`, `update_gate`, `candidate`.
    Raises: ValueError when `units` is below 1 or D is not known.
    Reference: Cho et al. 2014, arXiv 1406.1078.
    Example:
        >>> cell = GRUCell(units=13)
        >>> output, states = cell(ops.ones((2, 7)), [ops.zeros((2, 13))])
        >>> tuple(output.shape)
        (2, 13)
    """

    num_gates = 3

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        reset_after=True,
        **kwargs,
    ):
        super().__init__(
            units, activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, **kwargs
        )
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.reset_after = reset_after

    def bias_shape(self):
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def input_bias(self):
        return self.bias[0] if self.reset_after else self.bias

    def step(self, projected, states, memory=None, training=False):
        (state,) = states
        x_z, x_r, x_h = ops.split(projected, 3, axis=-1)  # (B, U) each
        if self.reset_after:
            recurrent = ops.matmul(state, self.recurrent_kernel)  # (B, 3 * U)
            if self.use_bias:
                recurrent = recurrent + self.bias[1]
            h_z, h_r, h_h = ops.split(recurrent, 3, axis=-1)
            update_gate = self.recurrent_activation(x_z + h_z)
            reset_gate = self.recurrent_activation(x_r + h_r)
            candidate = self.activation(x_h + reset_gate * h_h)
        else:
            gates, kernel = self.recurrent_kernel[:, : 2 * self.units], self.recurrent_kernel[:, 2 * self.units :]
            h_z, h_r = ops.split(ops.matmul(state, gates), 2, axis=-1)
            update_gate = self.recurrent_activation(x_z + h_z)
            reset_gate = self.recurrent_activation(x_r + h_r)
            candidate = self.activation(x_h + ops.matmul(reset_gate * state, kernel))
        state = candidate + update_gate * (state - candidate)
        return state, [state], {"reset_gate": reset_gate, "update_gate": update_gate, "candidate": candidate}

    def get_config(self):
        return {
            **super().get_config(),
            "recurrent_activation": keras.activations.serialize(self.recurrent_activation),
            "reset_after": self.reset_after,
        }
