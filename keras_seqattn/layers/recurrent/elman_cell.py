"""The simple recurrent network."""

import keras
from keras import ops

from keras_seqattn.layers.recurrent.gated import KernelCell


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
    Call arguments:
        inputs: (B, D) float, one step.
        states: list of one (B, U) float.
    Returns: output (B, U) and the list of states. Trace: `state`.
    Raises: ValueError when `units` is below 1 or D is not known.
    Reference: Elman 1990, Finding Structure in Time.
    Example:
        >>> cell = ElmanCell(units=13)
        >>> output, states = cell(ops.ones((2, 7)), [ops.zeros((2, 13))])
        >>> tuple(output.shape)
        (2, 13)
    """

    def step(self, projected, states, memory=None, training=False):
        state = self.activation(projected + ops.matmul(states[0], self.recurrent_kernel))  # (B, U)
        return state, [state], {"state": state}
