"""Long short-term memory."""

import keras
from keras import ops

from keras_seqattn.layers.recurrent.dropout import seed_generator
from keras_seqattn.layers.recurrent.gated_cell import GatedCell, normalized
from keras_seqattn.ops.arguments import check_rate


@keras.saving.register_keras_serializable(package="keras_seqattn")
class LSTMCell(GatedCell):
    """Long short-term memory: a cell that is added to rather than rewritten, behind three gates.

        input_gate  = recurrent_activation(x_i + h @ U_i)
        forget_gate = recurrent_activation(x_f + h @ U_f)
        output_gate = recurrent_activation(x_o + h @ U_o)
        candidate   = activation(x_c + h @ U_c)
        cell        = forget_gate * cell + input_gate * candidate
        h           = output_gate * activation(cell)

    with [x_i, x_f, x_c, x_o] = inputs @ kernel + bias. Weights have Keras's layout and order (input, forget, candidate,
    output), so they can be copied from and to `keras.layers.LSTMCell`. The options add, in any combination:

        input_gate  = recurrent_activation(... + peephole_input * cell)              `peephole`; forget_gate likewise
        output_gate = recurrent_activation(... + peephole_output * cell)             with the new cell
        input_gate  = 1 - forget_gate                                                `coupled_gates`: there is no x_i
        x           = LN(inputs @ kernel) * kernel_gain + bias                       `layer_norm`, eq. (20)
        h @ U       = LN(h @ U) * recurrent_gain                                     eq. (20), over all gates at once
        h           = output_gate * activation(LN(cell) * cell_gain + cell_shift)    eq. (22)

    Args:
        units: int, width U of the state, at least 1.
        activation: of the candidate and of the cell that is read.
        recurrent_activation: of the gates.
        use_bias: bool.
        kernel_initializer, recurrent_initializer, bias_initializer: Keras initializers.
        unit_forget_bias: bool, the forget gate's bias starts at one: at first, everything is remembered.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Keras regularizers, or None.
        kernel_constraint, recurrent_constraint, bias_constraint: Keras constraints, or None.
        dropout: float in [0, 1), share of the inputs that is dropped in training, by one mask a sequence.
        recurrent_dropout: float in [0, 1), likewise, share of the state that enters the recurrent product.
        seed: int, of what is dropped and kept; None for another one each time.
        zoneout: float in [0, 1), share of the units that keep their last h, drawn at every step in training.
        cell_zoneout: float in [0, 1), share of the units that keep their last cell, drawn by itself.
        peephole: bool, whether the gates see the cell.
        layer_norm: bool, whether products, and the cell that is read, are normalized.
        coupled_gates: bool, whether as much is taken in as is forgotten.
    Call arguments:
        inputs: (B, D) float, one step.
        states: list of two (B, U) float: h, then cell.
    Returns: output (B, U), which is h, and the list of states.
        Trace: `input_gate`, `forget_gate`, `output_gate`, `candidate`, `cell`.
    Raises: ValueError when `units` is below 1, a rate outside [0, 1), D is not known, or inputs or states do not fit.
    References: Hochreiter and Schmidhuber 1997; the forget gate is Gers et al. 2000. Peepholes: Gers and Schmidhuber
        2000, in the diagonal form of Graves 2013, arXiv 1308.0850, eq. (7) to (11). Layer normalization: Ba et al.
        2016, arXiv 1607.06450. Coupled gates: Greff et al. 2017, arXiv 1503.04069. Dropout and zoneout as in
        `KernelCell`.
    Example:
        >>> cell = LSTMCell(units=13)
        >>> output, states = cell(ops.ones((2, 7)), [ops.zeros((2, 13)), ops.zeros((2, 13))])
        >>> tuple(output.shape), len(states)
        ((2, 13), 2)
    """

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
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        seed=None,
        zoneout=0.0,
        cell_zoneout=0.0,
        peephole=False,
        layer_norm=False,
        coupled_gates=False,
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
        check_rate(cell_zoneout, "cell_zoneout")
        self.unit_forget_bias = unit_forget_bias
        self.peephole = peephole
        self.coupled_gates = coupled_gates
        self.cell_zoneout = cell_zoneout
        self.num_gates = 3 if coupled_gates else 4
        self.state_size = [units, units]
        self.zoneout_rates = (self.zoneout, cell_zoneout)
        self.seed_generator = self.seed_generator or seed_generator(self.seed, cell_zoneout)

    def build(self, input_shape):
        super().build(input_shape)
        if self.peephole:
            if not self.coupled_gates:
                self.peephole_input = self.add_vector("peephole_input", "zeros")
            self.peephole_forget = self.add_vector("peephole_forget", "zeros")
            self.peephole_output = self.add_vector("peephole_output", "zeros")
        if self.layer_norm:
            self.cell_gain = self.add_vector("cell_gain", "ones")
            self.cell_shift = self.add_vector("cell_shift", "zeros") if self.use_bias else None

    def add_vector(self, name, initializer):
        """A weight with one number a unit."""
        return self.add_weight(shape=(self.units,), initializer=initializer, name=name)

    def make_bias(self, shape, dtype=None):
        bias = super().make_bias(shape, dtype)
        if not self.unit_forget_bias:
            return bias
        before = (self.num_gates - 3) * self.units  # the input gate, where there is one
        ones = ops.ones((self.units,), dtype=bias.dtype)
        return ops.concatenate([bias[:before], ones, bias[before + self.units :]])

    def step(self, projected, states, memory=None, training=False, noise=()):
        last_h, last_cell = states
        z = self.from_inputs(projected) + self.from_state(last_h)  # (B, 4 * U), or 3 * U
        *z_i, z_f, z_c, z_o = ops.split(z, self.num_gates, axis=-1)  # (B, U) each
        peephole = self.peephole
        forget_gate = self.recurrent_activation(z_f + self.peephole_forget * last_cell if peephole else z_f)
        if self.coupled_gates:
            input_gate = 1 - forget_gate
        else:
            (z_i,) = z_i
            input_gate = self.recurrent_activation(z_i + self.peephole_input * last_cell if peephole else z_i)
        candidate = self.activation(z_c)
        cell = forget_gate * last_cell + input_gate * candidate
        output_gate = self.recurrent_activation(z_o + self.peephole_output * cell if peephole else z_o)
        h = output_gate * self.activation(self.read(cell))
        h, cell = self.zoned(h, last_h, noise, 0), self.zoned(cell, last_cell, noise, 1)
        trace = {
            "input_gate": input_gate,
            "forget_gate": forget_gate,
            "output_gate": output_gate,
            "candidate": candidate,
            "cell": cell,
        }
        return h, [h, cell], trace

    def read(self, cell):
        """The cell as the output reads it: normalized with `layer_norm`."""
        if not self.layer_norm:
            return cell
        cell = normalized(cell) * self.cell_gain
        return cell + self.cell_shift if self.use_bias else cell

    def get_config(self):
        return {
            **super().get_config(),
            "unit_forget_bias": self.unit_forget_bias,
            "peephole": self.peephole,
            "coupled_gates": self.coupled_gates,
            "cell_zoneout": self.cell_zoneout,
        }
