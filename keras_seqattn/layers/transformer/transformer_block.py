"""What encoder and decoder blocks share: their settings, their parts, and the ways around them."""

import keras
from keras import ops

from keras_seqattn.layers.attention.multi_head_attention import MultiHeadAttention
from keras_seqattn.layers.initializers import drawn_anew
from keras_seqattn.layers.output_spec import in_compute_dtype
from keras_seqattn.layers.transformer.feed_forward import FeedForward, activation_named, name_of
from keras_seqattn.ops.arguments import check_count, check_rate
from keras_seqattn.ops.rematerialize import rematerialize, seed_generators

NORMALIZATIONS = {"layer": keras.layers.LayerNormalization, "rms": keras.layers.RMSNormalization}


def make_norm(normalization, epsilon, **kwargs):
    """A layer that normalizes each step, by the name of its kind."""
    norm = NORMALIZATIONS[normalization](epsilon=epsilon, **kwargs)
    norm.supports_masking = True  # which `RMSNormalization` does not say
    return norm


class TransformerBlock(keras.layers.Layer):
    """The base of blocks; each way through one of its parts has a way around it:

        x = norm(x + dropout(part(x)))            post-norm, as in Vaswani et al.
        x = x + dropout(part(norm(x)))            pre-norm, `normalize_first`

    The arguments are described in `TransformerEncoder`.
    """

    def __init__(
        self,
        num_heads,
        feed_forward_dim,
        key_dim=None,
        num_kv_heads=None,
        positions=None,
        sliding_window=None,
        implementation="auto",
        activation="relu",
        gated=False,
        normalize_first=False,
        normalization="layer",
        epsilon=1e-6,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        rematerialize=False,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_count(num_heads, "num_heads")
        if normalization not in NORMALIZATIONS:
            known = ", ".join(map(repr, NORMALIZATIONS))
            raise ValueError(f"`normalization` must be one of {known}. Received: {normalization=}.")
        rates = {"attention_dropout": attention_dropout, "activation_dropout": activation_dropout}
        for name, rate in {"dropout": dropout, **rates}.items():
            check_rate(rate, name)
        self.num_heads = num_heads
        self.feed_forward_dim = feed_forward_dim
        self.key_dim = key_dim
        self.num_kv_heads = num_kv_heads
        self.positions = positions
        self.sliding_window = sliding_window
        self.implementation = implementation
        self.activation = activation_named(activation)
        self.gated = gated
        self.normalize_first = normalize_first
        self.normalization = normalization
        self.epsilon = epsilon
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation_dropout = activation_dropout
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.rematerialize = rematerialize
        self.seed = seed
        self.supports_masking = True

    def build_attention(self, name, inputs_shape, value_shape, **options):
        """An attention, its norm and its dropout, under `name`, `name`_norm and `name`_dropout."""
        width = inputs_shape[-1]
        if self.key_dim is None and width % self.num_heads:
            raise ValueError(
                "The heads share the width evenly, so `num_heads` must divide it, unless `key_dim` is given. "
                f"Received: {width=}, num_heads={self.num_heads}."
            )
        attention = MultiHeadAttention(
            self.num_heads,
            self.key_dim or width // self.num_heads,
            dropout=self.attention_dropout,
            use_bias=self.use_bias,
            num_kv_heads=self.num_kv_heads,
            implementation=self.implementation,
            **options,
            **self._initializers(),
            seed=self._seed(name),
            dtype=self.dtype_policy,
            name=name,
        )
        attention.build(inputs_shape, value_shape)
        self._add_part(name, attention, inputs_shape)

    def build_feed_forward(self, inputs_shape):
        """The feed-forward network, its norm and its dropout."""
        feed_forward = FeedForward(
            self.feed_forward_dim,
            activation=self.activation,
            gated=self.gated,
            dropout=self.activation_dropout,
            use_bias=self.use_bias,
            **self._initializers(),
            seed=self._seed("feed_forward_inside"),
            dtype=self.dtype_policy,
            name="feed_forward",
        )
        feed_forward.build(inputs_shape)
        self._add_part("feed_forward", feed_forward, inputs_shape)

    def _add_part(self, name, part, inputs_shape):
        norm = make_norm(self.normalization, self.epsilon, dtype=self.dtype_policy, name=f"{name}_norm")
        norm.build(inputs_shape)
        seed = self._seed(f"{name}_dropout")
        setattr(self, name, part)
        setattr(self, f"{name}_norm", norm)
        setattr(
            self,
            f"{name}_dropout",
            keras.layers.Dropout(self.dropout, seed=seed, dtype=self.dtype_policy, name=f"{name}_dropout"),
        )

    def _initializers(self):
        return {
            "kernel_initializer": drawn_anew(self.kernel_initializer),
            "bias_initializer": drawn_anew(self.bias_initializer),
        }

    def _seed(self, name):
        """A seed for each dropout: the same one for all would drop the same places."""
        return None if self.seed is None else self.seed + 1 + sum(map(ord, name))

    def around(self, name, x, part, training):
        """x (B, T, D) with what `part` adds to it, and what else `part` returns."""
        norm, dropout = getattr(self, f"{name}_norm"), getattr(self, f"{name}_dropout")
        y, *rest = part(norm(x)) if self.normalize_first else part(x)
        x = x + dropout(y, training=training)
        return x if self.normalize_first else norm(x), rest

    def around_feed_forward(self, x, training):
        """x (B, T, D) with what the feed-forward network adds to it."""
        x, _ = self.around("feed_forward", x, lambda x: [self.feed_forward(x, training=training)], training)
        return x

    def computed(self, function, inputs, training):
        """`function(*inputs)`, in training rematerialized where that was asked for.

        The tensors lose the masks that they carry: the block has handed those on as arguments, and the attention would
        otherwise take them for masks of its queries.
        """
        inputs = [None if x is None else ops.copy(x) for x in inputs]
        if training and self.rematerialize:
            return rematerialize(function, inputs, seed_generators(self))
        return function(*inputs)

    def get_initial_cache(self, batch_size, max_length):
        """An empty `AttentionCache` of the self-attention."""
        return self.self_attention.get_initial_cache(batch_size, max_length)

    def compute_output_spec(self, *args, **kwargs):
        return in_compute_dtype(self, super().compute_output_spec(*args, **kwargs))

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "feed_forward_dim": self.feed_forward_dim,
            "key_dim": self.key_dim,
            "num_kv_heads": self.num_kv_heads,
            "positions": self.positions,
            "sliding_window": self.sliding_window,
            "implementation": self.implementation,
            "activation": name_of(self.activation),
            "gated": self.gated,
            "normalize_first": self.normalize_first,
            "normalization": self.normalization,
            "epsilon": self.epsilon,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "activation_dropout": self.activation_dropout,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "rematerialize": self.rematerialize,
            "seed": self.seed,
        }
