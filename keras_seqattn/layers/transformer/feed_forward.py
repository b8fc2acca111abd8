"""The network that a transformer applies to each step on its own."""

import keras
from keras import ops

from keras_seqattn.layers.initializers import drawn_anew
from keras_seqattn.ops.arguments import check_rate, check_units


@keras.saving.register_keras_serializable(package="keras_seqattn")
def gelu_tanh(x):
    """GELU as GPT-2 computes it: x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))), app. of arXiv 1606.08415."""
    return ops.gelu(x, approximate=True)


def activation_named(activation):
    """A function from Keras's name of it, or "gelu_tanh"."""
    return gelu_tanh if activation == "gelu_tanh" else keras.activations.get(activation)


def name_of(activation):
    """The name that `activation_named` takes, or Keras's config of a function without one."""
    return "gelu_tanh" if activation is gelu_tanh else keras.activations.serialize(activation)


@keras.saving.register_keras_serializable(package="keras_seqattn")
class FeedForward(keras.layers.Layer):
    """Widens each step, bends it, and brings it back to its width.

        hidden = activation(inner(x))                          Vaswani et al., eq. (2), where activation is ReLU
        hidden = activation(gate(x)) * inner(x)                `gated`: Shazeer, eq. (6); SwiGLU with "silu"
        y      = outer(dropout(hidden))

    Args:
        feed_forward_dim: int, width F of the hidden layer, at least 1.
        activation: Keras's name of a function, such as "relu", "gelu" (exact) or "silu"; or "gelu_tanh", as GPT-2's.
        gated: bool, whether a second product gates the first.
        dropout: float in [0, 1), on the hidden layer.
        use_bias: bool.
        kernel_initializer, bias_initializer: for all products.
        seed: int, of the dropout.
    Call arguments:
        inputs: (B, T, D) float.
    Returns: (B, T, D) float.
    Raises: ValueError when `feed_forward_dim` is below 1.
    References: Vaswani et al. 2017, arXiv 1706.03762, sec. 3.3; Shazeer 2020, arXiv 2002.05202.
    Example:
        >>> tuple(FeedForward(13, activation="silu", gated=True)(ops.ones((2, 3, 7))).shape)
        (2, 3, 7)
    """

    def __init__(
        self,
        feed_forward_dim,
        activation="relu",
        gated=False,
        dropout=0.0,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_units(feed_forward_dim, "feed_forward_dim")
        check_rate(dropout, "dropout")
        self.feed_forward_dim = feed_forward_dim
        self.activation = activation_named(activation)
        self.gated = gated
        self.dropout = dropout
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.seed = seed
        self.supports_masking = True
        self.inner = self._product(feed_forward_dim, "inner")
        self.gate = self._product(feed_forward_dim, "gate") if gated else None
        self.dropout_layer = keras.layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy, name="dropout")

    def _product(self, width, name):
        return keras.layers.Dense(
            width,
            use_bias=self.use_bias,
            kernel_initializer=drawn_anew(self.kernel_initializer),
            bias_initializer=drawn_anew(self.bias_initializer),
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, inputs_shape):
        self.outer = self._product(inputs_shape[-1], "outer")
        self.inner.build(inputs_shape)
        if self.gate is not None:
            self.gate.build(inputs_shape)
        self.outer.build((*inputs_shape[:-1], self.feed_forward_dim))

    def call(self, inputs, training=None):
        hidden = self.inner(inputs)  # (B, T, F)
        if self.gate is None:
            hidden = self.activation(hidden)
        else:
            hidden = self.activation(self.gate(inputs)) * hidden
        return self.outer(self.dropout_layer(hidden, training=training))

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {
            **super().get_config(),
            "feed_forward_dim": self.feed_forward_dim,
            "activation": "gelu_tanh" if self.activation is gelu_tanh else keras.activations.serialize(self.activation),
            "gated": self.gated,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "seed": self.seed,
        }
