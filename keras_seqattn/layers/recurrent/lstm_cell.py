"""Long short-term memory."""

import keras
from keras import ops

from keras_seqattn.layers.recurrent.gated import KernelCell


@keras.saving.register_keras_serializable(package="keras_seqattn")
class LSTMCell(KernelCell):
    """Long short-term memory: a cell that is added to rather than rewritten, behind three gates.

        input_gate  = recurrent_activation(x_i + h @ U_i)
        forget_gate = recurrent_activation(x_f + h @ U_f)
        output_gate = recurrent_activation(x_o + h @ U_o)
        candidate   = activation(x_c + h @ U_c)
        cell        = forget_gate * cell + input_gate * candidate
        h           = output_gate * activation(cell)

    with [x_i, x_f, x_c, x_o] = inputs @ kernel + bias. Weights have Keras's layout and order (input, forget, candidate,
    output), so they can be copied from and to `keras.layers.LSTMCell`.

    Args:
        units: int, width U of the state, at least 1.
        activation: of the candidate and of the cell that is read.
        recurrent_activation: of the gates.
        use_bias: bool.
        kernel_initializer, recurrent_initializer, bias_initializer: Keras initializers.
        unit_forget_bias: bool, the forget gate's bias starts at one: at first, everything is remembered.
    Call arguments:
        inputs: (B, D) float, one step.
        states: list of two (B, U) float: h, then cell.
    Returns: output (B, U), which is h, and the list of states.
        Trace: `input_gate`, `forget_gate`, `output_gate`, `candidate`, `cell`.
    Raises: ValueError when `units` is below 1 or D is not known.
    Reference: Hochreiter and Schmidhuber 1997; the forget gate is Gers et al. 2000.
    Example:
        >>> cell = LSTMCell(units=13)
        >>> output, states = cell(ops.ones((2, 7)), [ops.zeros((2, 13)), ops.zeros((2, 13))])
        >>> tuple(output.shape), len(states)
        ((2, 13), 2)
    """

    num_gates = 4

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        unit_forget_bias=True,
        **kwargs,
    ):
        super().__init__(
            units, activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, **kwargs
        )
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.unit_forget_bias = unit_forget_bias
        self.state_size = [units, units]

    def make_bias(self, shape, dtype=None):
        bias = super().make_bias(shape, dtype)
        if not self.unit_forget_bias:
            return bias
        ones = ops.ones((self.units,), dtype=bias.dtype)
        return ops.concatenate([bias[: self.units], ones, bias[2 * self.units :]])

    def step(self, projected, states, memory=None, training=False):
        h, cell = states
        z = projected + ops.matmul(h, self.recurrent_kernel)  # (B, 4 * U)
        z_i, z_f, z_c, z_o = ops.split(z, 4, axis=-1)  # (B, U) each
        input_gate = self.recurrent_activation(z_i)
        forget_gate = self.recurrent_activation(z_f)
        output_gate = self.recurrent_activation(z_o)
        candidate = self.activation(z_c)
        cell = forget_gate * cell + input_gate * candidate
        h = output_gate * self.activation(cell)
        trace = {
            "input_gate": input_gate,
            "forget_gate": forget_gate,
            "output_gate": output_gate,
            "candidate": candidate,
            "cell": cell,
        }
        return h, [h, cell], trace

    def get_config(self):
        return {
            **super().get_config(),
            "recurrent_activation": keras.activations.serialize(self.recurrent_activation),
            "unit_forget_bias": self.unit_forget_bias,
        }
