"""The recurrent network that reads its own output."""

import keras

from keras_seqattn.layers.initializers import drawn_anew
from keras_seqattn.layers.recurrent.kernel_cell import KernelCell
from keras_seqattn.ops import product
from keras_seqattn.ops.arguments import check_units


@keras.saving.register_keras_serializable(package="keras_seqattn")
class JordanCell(KernelCell):
    """The network that reads its own output: what comes back is what it has said, not what it has thought.

        state  = activation(inputs @ kernel + output @ recurrent_kernel + bias)
        output = output_activation(state @ output_kernel + output_bias)

    Args:
        units: int, width U of the hidden layer, at least 1.
        output_units: int, width O of the output; None for that of the hidden layer.
        activation: of the hidden layer; Keras name or function.
        output_activation: of the output. One without bounds can make the output grow from step to step.
        use_bias: bool.
        kernel_initializer, recurrent_initializer, bias_initializer: Keras initializers; the first is the output's too.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Keras regularizers, or None.
        kernel_constraint, recurrent_constraint, bias_constraint: Keras constraints, or None.
        dropout: float in [0, 1), share of the inputs that is dropped in training, by one mask a sequence.
        recurrent_dropout: float in [0, 1), likewise, share of the output that enters the recurrent product.
        seed: int, of what is dropped and kept; None for another one each time.
        zoneout: float in [0, 1), share of the units that keep their last value, drawn at every step in training.
    Call arguments:
        inputs: (B, D) float, one step.
        states: list of one (B, O) float, the last output.
    Returns: output (B, O) and the list of states. Trace: `state` (B, U), the hidden layer, and `output`.
    Raises: ValueError when a width is below 1, a rate outside [0, 1), D is not known, or inputs or states do not fit.
    References: Jordan 1986, Serial Order; dropout and zoneout as in `KernelCell`.
    Example:
        >>> cell = JordanCell(units=13, output_units=11)
        >>> output, states = cell(ops.ones((2, 7)), [ops.zeros((2, 11))])
        >>> tuple(output.shape)
        (2, 11)
    """

    def __init__(
        self,
        units,
        output_units=None,
        activation="tanh",
        output_activation="tanh",
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
        seed=None,
        zoneout=0.0,
        **kwargs,
    ):
        super().__init__(
            units,
            activation,
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            kernel_regularizer,
            recurrent_regularizer,
            bias_regularizer,
            kernel_constraint,
            recurrent_constraint,
            bias_constraint,
            dropout,
            recurrent_dropout,
            seed,
            zoneout,
            **kwargs,
        )
        if output_units is not None:
            check_units(output_units, "output_units")
        self.output_units = output_units
        self.output_activation = keras.activations.get(output_activation)
        self.state_size = self.output_size = units if output_units is None else output_units

    def build(self, input_shape):
        super().build(input_shape)
        fresh = drawn_anew(self.kernel_initializer)
        self.output_kernel = self.add("output_kernel", "kernel", self.units, self.output_size, initializer=fresh)
        self.output_bias = self.add("output_bias", "bias", self.output_size) if self.use_bias else None

    def step(self, projected, states, memory=None, training=False, noise=()):
        (output,) = states
        state = self.activation(projected + self.from_state(output))  # (B, U)
        logits = product(state, self.output_kernel, self.output_bias)  # (B, O)
        output = self.zoned(self.output_activation(logits), output, noise)
        return output, [output], {"state": state, "output": output}

    def get_config(self):
        return {
            **super().get_config(),
            "output_units": self.output_units,
            "output_activation": keras.activations.serialize(self.output_activation),
        }
