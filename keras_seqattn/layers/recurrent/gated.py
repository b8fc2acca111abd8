"""What the cells with one input kernel share: weights, and the input product that leaves the loop."""

import keras
from keras import ops

from keras_seqattn.layers.recurrent.cell import RecurrentCell, check_units


class KernelCell(RecurrentCell):
    """A cell whose inputs enter by one kernel (D, G * U) for its G gates, and its state by another (U, G * U)."""

    splits_inputs = True
    num_gates = 1

    def __init__(
        self,
        units,
        activation="tanh",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_units(units)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.state_size = units
        self.output_size = units

    def build(self, input_shape):
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise ValueError(
                f"`{type(self).__name__}` takes one step of inputs (B, D) whose width D is known. "
                f"Received: input_shape={tuple(input_shape)}."
            )
        width = self.num_gates * self.units
        self.kernel = self.add_weight(
            shape=(input_shape[-1], width), initializer=self.kernel_initializer, name="kernel"
        )
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, width), initializer=self.recurrent_initializer, name="recurrent_kernel"
        )
        self.bias = (
            self.add_weight(shape=self.bias_shape(), initializer=self.make_bias, name="bias") if self.use_bias else None
        )

    def bias_shape(self):
        """Shape of the bias of all gates."""
        return (self.num_gates * self.units,)

    def make_bias(self, shape, dtype=None):
        """What the bias starts as."""
        return self.bias_initializer(shape, dtype=dtype)

    def input_bias(self):
        """The bias that goes with the input product, before the loop."""
        return self.bias

    def project(self, inputs, start=0):
        kernel = (
            self.kernel
            if start == 0 and inputs.shape[-1] == self.kernel.shape[0]
            else (self.kernel[start : start + inputs.shape[-1]])
        )
        projected = ops.matmul(inputs, kernel)  # (..., G * U)
        return projected + self.input_bias() if self.use_bias and start == 0 else projected

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
