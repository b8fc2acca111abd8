"""The gated recurrent unit."""

import keras
from keras import ops

from keras_seqattn.layers.recurrent.gated_cell import GatedCell


@keras.saving.register_keras_serializable(package="keras_seqattn")
class GRUCell(GatedCell):
    """The gated recurrent unit: one gate says how much of the state stays, another how much of it is read.

        update_gate = recurrent_activation(x_z + state @ U_z)                        eq. (6)
        reset_gate  = recurrent_activation(x_r + state @ U_r)                        eq. (5)
        candidate   = activation(x_h + reset_gate * (state @ U_h + b_h))             eq. (8), reset after
        candidate   = activation(x_h + (reset_gate * state) @ U_h)                   eq. (8), reset before
        state       = update_gate * state + (1 - update_gate) * candidate            eq. (7)

    with [x_z, x_r, x_h] = inputs @ kernel + bias. Weights have Keras's layout and order (update, reset, candidate), so
    they can be copied from and to `keras.layers.GRUCell`. With `layer_norm` every x and every product with U is
    normalized and multiplied with a gain before a bias is added: the two gates together, the candidate by itself.

    Args:
        units: int, width U of the state, at least 1.
        activation: of the candidate.
        recurrent_activation: of the gates.
        use_bias: bool.
        kernel_initializer, recurrent_initializer, bias_initializer: Keras initializers.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Keras regularizers, or None.
        kernel_constraint, recurrent_constraint, bias_constraint: Keras constraints, or None.
        dropout: float in [0, 1), share of the inputs that is dropped in training, by one mask a sequence.
        recurrent_dropout: float in [0, 1), likewise, share of the state that enters the recurrent product.
        reset_after: bool, whether the reset gate multiplies after the product with U_h (as cuDNN, PyTorch and Keras
            do) or before it (as the paper).
        seed: int, of what is dropped and kept; None for another one each time.
        zoneout: float in [0, 1), share of the units that keep their last value, drawn at every step in training.
        layer_norm: bool, whether products are normalized.
    Call arguments:
        inputs: (B, D) float, one step.
        states: list of one (B, U) float.
    Returns: output (B, U), which is the state, and the list of states.
        Trace: `reset_gate`, `update_gate`, `candidate`.
    Raises: ValueError when `units` is below 1, a rate outside [0, 1), D is not known, or inputs or states do not fit.
    References: Cho et al. 2014, arXiv 1406.1078; layer normalization: Ba et al. 2016, arXiv 1607.06450;
        dropout and zoneout as in `KernelCell`.
    Example:
        >>> cell = GRUCell(units=13)
        >>> output, states = cell(ops.ones((2, 7)), [ops.zeros((2, 13))])
        >>> tuple(output.shape)
        (2, 13)
    """

    num_gates = 3
    normalized_from = (2,)

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        reset_after=True,
        seed=None,
        zoneout=0.0,
        layer_norm=False,
        **kwargs,
    ):
        super().__init__(
            units,
            recurrent_activation,
            layer_norm,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            zoneout=zoneout,
            **kwargs,
        )
        self.reset_after = reset_after

    def bias_shape(self):
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def input_bias(self):
        if not self.reset_after or not self.use_bias or self.layer_norm:
            return super().input_bias()
        # Both biases of the two gates; the second one of the candidate is behind the reset gate.
        last = ops.concatenate([self.bias[1, : 2 * self.units], ops.zeros_like(self.bias[1, 2 * self.units :])])
        return self.bias[0] + last

    def normalized_bias(self):
        return self.bias[0] if self.reset_after else self.bias

    def step(self, projected, states, memory=None, training=False, noise=()):
        (state,) = states
        x_z, x_r, x_h = ops.split(self.from_inputs(projected), 3, axis=-1)  # (B, U) each
        if self.reset_after:
            h = self.from_state(state)  # (B, 3 * U)
            h_z, h_r, h_h = ops.split(h + self.bias[1] if self.use_bias and self.layer_norm else h, 3, axis=-1)
            if self.use_bias and not self.layer_norm:
                h_h = h_h + self.bias[1, 2 * self.units :]
            update_gate = self.recurrent_activation(x_z + h_z)
            reset_gate = self.recurrent_activation(x_r + h_r)
            candidate = self.activation(x_h + reset_gate * h_h)
        else:
            h_z, h_r = ops.split(self.from_state(state, last=2), 2, axis=-1)
            update_gate = self.recurrent_activation(x_z + h_z)
            reset_gate = self.recurrent_activation(x_r + h_r)
            candidate = self.activation(x_h + self.from_state(reset_gate * state, first=2))
        state = self.zoned(candidate + update_gate * (state - candidate), state, noise)
        return state, [state], {"reset_gate": reset_gate, "update_gate": update_gate, "candidate": candidate}

    def get_config(self):
        return {**super().get_config(), "reset_after": self.reset_after}
