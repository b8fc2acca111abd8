"""The simple recurrent network."""

import keras

from keras_seqattn.layers.recurrent.kernel_cell import KernelCell


@keras.saving.register_keras_serializable(package="keras_seqattn")
class ElmanCell(KernelCell):
    """The simple recurrent network: the hidden layer sees the inputs and its own last value.

        output = activation(inputs @ kernel + bias + state @ recurrent_kernel)      sec. "Structure in Time"
        state  = output

    Args:
        units: int, width U of the state, at least 1.
        activation: of the state; Keras name or function.
        use_bias: bool.
        kernel_initializer, recurrent_initializer, bias_initializer: Keras initializers.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Keras regularizers, or None.
        kernel_constraint, recurrent_constraint, bias_constraint: Keras constraints, or None.
        dropout: float in [0, 1), share of the inputs that is dropped in training, by one mask a sequence.
        recurrent_dropout: float in [0, 1), likewise, share of the state that enters the recurrent product.
        seed: int, of what is dropped and kept; None for another one each time.
        zoneout: float in [0, 1), share of the units that keep their last value, drawn at every step in training.
    Call arguments:
        inputs: (B, D) float, one step.
        states: list of one (B, U) float.
    Returns: output (B, U) and the list of states. Trace: `state`.
    Raises: ValueError when `units` is below 1, a rate outside [0, 1), D is not known, or inputs or states do not fit.
    References: Elman 1990, Finding Structure in Time; dropout and zoneout as in `KernelCell`.
    Example:
        >>> cell = ElmanCell(units=13)
        >>> output, states = cell(ops.ones((2, 7)), [ops.zeros((2, 13))])
        >>> tuple(output.shape)
        (2, 13)
    """

    def step(self, projected, states, memory=None, training=False, noise=()):
        (state,) = states
        state = self.zoned(self.activation(projected + self.from_state(state)), state, noise)  # (B, U)
        return state, [state], {"state": state}
