"""What the cells with one input kernel share: weights, dropout, and the input product that leaves the loop."""

import keras

from keras_seqattn.layers.recurrent.cell import RecurrentCell
from keras_seqattn.layers.recurrent.dropout import dropout_mask, masked, seed_generator, zoned
from keras_seqattn.ops import product
from keras_seqattn.ops.arguments import check_rate, check_units


class KernelCell(RecurrentCell):
    """A cell whose inputs enter by one kernel (D, G * U) for its G gates, and its last output by another.

        projected = (inputs * input_mask) @ kernel + bias                     before the loop
        z         = projected + (output * state_mask) @ recurrent_kernel      in the loop

    The masks are drawn once a sequence, in training, and are the same for all gates. Zoneout draws at every step which
    units keep their last value; outside of training each unit keeps that share of it.

    References: Gal and Ghahramani 2016, arXiv 1512.05287 (dropout); Krueger et al. 2017, arXiv 1606.01305 (zoneout).
    """

    splits_inputs = True
    num_gates = 1
    input_mask = None  # (B, D), while there is a sequence
    state_mask = None  # (B, U)

    def __init__(
        self,
        units,
        activation="tanh",
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
        super().__init__(**kwargs)
        check_units(units)
        for name, rate in {"dropout": dropout, "recurrent_dropout": recurrent_dropout, "zoneout": zoneout}.items():
            check_rate(rate, name)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = keras.regularizers.get(recurrent_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.recurrent_constraint = keras.constraints.get(recurrent_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.seed = seed
        self.zoneout = zoneout
        self.state_size = units
        self.output_size = units
        self.zoneout_rates = (zoneout,)  # one a state
        self.seed_generator = seed_generator(seed, dropout, recurrent_dropout, zoneout)

    def build(self, input_shape):
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise ValueError(
                f"`{type(self).__name__}` takes one step of inputs (B, D) whose width D is known. "
                f"Received: input_shape={tuple(input_shape)}."
            )
        width = self.num_gates * self.units
        self.kernel = self.add("kernel", "kernel", input_shape[-1], width)
        self.recurrent_kernel = self.add("recurrent_kernel", "recurrent", self.output_size, width)
        self.bias = self.add("bias", "bias", *self.bias_shape(), initializer=self.make_bias) if self.use_bias else None

    def add(self, name, kind, *shape, initializer=None):
        """A weight by what the arguments say of its kind: "kernel", "recurrent" or "bias"."""
        return self.add_weight(
            shape=shape,
            initializer=getattr(self, f"{kind}_initializer") if initializer is None else initializer,
            regularizer=getattr(self, f"{kind}_regularizer"),
            constraint=getattr(self, f"{kind}_constraint"),
            name=name,
        )

    def bias_shape(self):
        """Shape of the bias of all gates."""
        return (self.num_gates * self.units,)

    def make_bias(self, shape, dtype=None):
        """What the bias starts as."""
        return self.bias_initializer(shape, dtype=dtype)

    def begin(self, rows, width, length, memory=None, training=False):
        if width != self.kernel.shape[0]:
            raise ValueError(
                f"`inputs` must be as wide as those that the cell was built for. Expected: {self.kernel.shape[0]}. "
                f"Received: {width}."
            )
        self.end()
        if not training:
            return ()
        dtype, seed, rates = self.compute_dtype, self.seed_generator, self.zoneout_rates
        self.input_mask = dropout_mask(self.dropout, (rows, width), dtype, seed)
        self.state_mask = dropout_mask(self.recurrent_dropout, (rows, self.output_size), dtype, seed)
        if not any(rates):
            return ()
        sizes = keras.tree.flatten(self.state_size)
        return [
            keras.random.uniform((length, rows, size), seed=seed) < rate if rate else ()  # (T, B, U)
            for rate, size in zip(rates, sizes, strict=True)
        ]

    def end(self):
        self.input_mask = self.state_mask = None

    def project(self, inputs, start=0):
        inputs = masked(inputs, self.input_mask, start)
        kernel, width = self.kernel, inputs.shape[-1]
        if width != kernel.shape[0]:
            kernel = kernel[start : start + width]
        return product(inputs, kernel, None if start else self.input_bias())  # (..., G * U)

    def input_bias(self):
        """The bias of the inputs' product, or None."""
        return self.bias

    def from_state(self, state):
        """What the last output adds to the gates, without what `recurrent_dropout` has dropped."""
        return product(masked(state, self.state_mask), self.recurrent_kernel)  # (B, G * U)

    def zoned(self, new, old, noise, index=0):
        """A new state after zoneout, by the mask that was drawn for it and the one before it."""
        drawn = keras.tree.flatten(noise[index]) if noise else []
        return zoned(new, old, self.zoneout_rates[index], *drawn)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "recurrent_regularizer": keras.regularizers.serialize(self.recurrent_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "recurrent_constraint": keras.constraints.serialize(self.recurrent_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "seed": self.seed,
            "zoneout": self.zoneout,
        }
