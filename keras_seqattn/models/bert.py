"""BERT: encoder blocks alone, and the heads that read them."""

import keras
from keras import ops

from keras_seqattn.layers import LearnedPositions, TokenEmbedding, TransformerEncoder
from keras_seqattn.layers.transformer.feed_forward import activation_named
from keras_seqattn.models import presets
from keras_seqattn.models.reading import Reader, check_heads, check_sizes
from keras_seqattn.ops.arguments import check_count

PAD_ID = 0
HEADS = (None, "masked_words", "sequence", "tokens")


@keras.saving.register_keras_serializable(package="keras_seqattn")
class SegmentEmbedding(keras.layers.Layer):
    """Adds to each step the vector of its segment: y = x + embeddings[segment], segment 0 where none is told."""

    def __init__(self, num_segments, embeddings_initializer="uniform", **kwargs):
        super().__init__(**kwargs)
        self.num_segments = num_segments
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def build(self, inputs_shape, segment_ids_shape=None):
        shape = (self.num_segments, inputs_shape[-1])
        self.embeddings = self.add_weight(shape=shape, initializer=self.embeddings_initializer, name="embeddings")

    def call(self, inputs, segment_ids=None):
        embeddings = ops.cast(self.embeddings, inputs.dtype)
        return inputs + (embeddings[0] if segment_ids is None else ops.take(embeddings, segment_ids, axis=0))

    def compute_output_shape(self, inputs_shape, segment_ids_shape=None):
        return inputs_shape

    def get_config(self):
        return {
            **super().get_config(),
            "num_segments": self.num_segments,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_seqattn")
class Bias(keras.layers.Layer):
    """y = x + bias, for logits that come from a shared matrix."""

    def build(self, inputs_shape):
        self.bias = self.add_weight(shape=(inputs_shape[-1],), initializer="zeros", name="bias")

    def call(self, inputs):
        return inputs + ops.cast(self.bias, inputs.dtype)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape


@keras.saving.register_keras_serializable(package="keras_seqattn")
class PickSteps(keras.layers.Layer):
    """The steps (B, M, D) of `inputs` (B, T, D) at `steps` (B, M) int; all where none are told."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_mask(self, inputs, mask=None):
        return None  # the steps that are picked are there

    def call(self, inputs, steps=None):
        return inputs if steps is None else ops.take_along_axis(inputs, steps[:, :, None], axis=1)


@keras.saving.register_keras_serializable(package="keras_seqattn")
class Bert(keras.Model):
    """Reads a text, or two, in both directions at once.

        x = encoder blocks (dropout(norm(embedding(ids) + positions + segments)))

        head None             x (B, T, D), a vector for each token
        head "masked_words"   norm(activation(dense(x))) @ transpose(embedding) + bias: logits (B, T, vocabulary_size)
        head "sequence"       dense(dropout(tanh(dense(first token of x)))): logits (B, num_classes)
        head "tokens"         dense(dropout(x)): logits (B, T, num_classes)

    Id 0 is padding: it is read as nothing.

    Args:
        vocabulary_size: int, ids from 0.
        max_length: int, tokens of a text at most.
        model_dim: int, width D.
        num_layers: int, blocks.
        num_heads: int, heads of each attention; it divides `model_dim`.
        feed_forward_dim: int, width F; None is 4 * `model_dim`.
        num_segments: int, kinds of segments.
        head: None, "masked_words", "sequence" or "tokens".
        num_classes: int, of the heads "sequence" and "tokens".
        activation, epsilon, dropout, attention_dropout, implementation, rematerialize: of the blocks, see
            `TransformerEncoder`; `dropout` also on the embeddings and before the classes.
        name, dtype, trainable: as of any Keras layer; `dtype` may be a policy, such as "mixed_bfloat16".
    Call arguments: dict of
        `ids` (B, T) int;
        `segment_ids` (B, T) int, or absent: all 0;
        `masked_steps` (B, M) int, or absent: with head "masked_words", the steps whose logits (B, M, vocabulary_size)
            are wanted.
    Returns: as above; logits are float32.
    Raises: ValueError when a name is unknown, a number out of its range, or a head has no number of classes.
    Reference: Devlin et al. 2019, arXiv 1810.04805.
    Example:
        >>> sizes = {"vocabulary_size": 19, "max_length": 11, "model_dim": 8, "num_layers": 2, "num_heads": 2}
        >>> tuple(Bert(**sizes, head="sequence", num_classes=3)({"ids": ops.ones((2, 5), "int32")}).shape)
        (2, 3)
    """

    def __init__(
        self,
        vocabulary_size=30522,
        max_length=512,
        model_dim=768,
        num_layers=12,
        num_heads=12,
        feed_forward_dim=None,
        num_segments=2,
        head=None,
        num_classes=None,
        activation="gelu",
        epsilon=1e-12,
        dropout=0.1,
        attention_dropout=0.1,
        implementation="auto",
        rematerialize=False,
        name=None,
        dtype=None,
        trainable=True,
    ):
        check_sizes(
            "learned",
            max_length,
            vocabulary_size=vocabulary_size,
            model_dim=model_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            num_segments=num_segments,
            feed_forward_dim=4 * model_dim if feed_forward_dim is None else feed_forward_dim,
        )
        check_heads(model_dim, num_heads)
        if head not in HEADS:
            raise ValueError(f"`head` must be one of {', '.join(map(repr, HEADS))}. Received: {head=}.")
        if head in ("sequence", "tokens"):
            check_count(num_classes, "num_classes")
        elif num_classes is not None:
            raise ValueError(
                f"`num_classes` goes with the heads 'sequence' and 'tokens'. Received: {num_classes=}, {head=}."
            )
        policy = {"dtype": keras.dtype_policies.get(dtype)}
        small = keras.initializers.TruncatedNormal(stddev=0.02)  # of the published code

        def dense(width, name, **options):
            return keras.layers.Dense(width, kernel_initializer=small.clone(), name=name, **options, **policy)

        def norm(name):
            return keras.layers.LayerNormalization(epsilon=epsilon, name=name, **policy)

        # Parts
        reader = Reader(
            TokenEmbedding(
                vocabulary_size, model_dim, embeddings_initializer=small.clone(), name="embedding", **policy
            ),
            LearnedPositions(max_length, embeddings_initializer=small.clone(), name="positions", **policy),
            keras.layers.Dropout(dropout, name="dropout", **policy),
            norm("embedding_norm"),
        )
        segments = SegmentEmbedding(num_segments, small.clone(), name="segments", **policy)
        blocks = [
            TransformerEncoder(
                num_heads,
                4 * model_dim if feed_forward_dim is None else feed_forward_dim,
                implementation=implementation,
                activation=activation,
                epsilon=epsilon,
                dropout=dropout,
                attention_dropout=attention_dropout,
                kernel_initializer=small.clone(),
                rematerialize=rematerialize,
                name=f"block_{index}",
                **policy,
            )
            for index in range(num_layers)
        ]

        # Graph
        ids = keras.Input((None,), dtype="int32", name="ids")
        segment_ids = keras.Input((None,), dtype="int32", name="segment_ids", optional=True)
        inputs = {"ids": ids, "segment_ids": segment_ids}
        mask = ops.not_equal(ids, PAD_ID)
        x = reader(ids, add=lambda x: segments(x, segment_ids))
        for block in blocks:
            x = block(x, mask=mask)
        outputs = x
        head_dropout = keras.layers.Dropout(dropout, name="head_dropout", **policy)
        if head == "masked_words":
            inputs["masked_steps"] = keras.Input((None,), dtype="int32", name="masked_steps", optional=True)
            x = PickSteps(name="masked", **policy)(x, inputs["masked_steps"])
            bent = dense(model_dim, "words_dense", activation=activation_named(activation))(x)
            outputs = Bias(name="words_bias", **policy)(reader.embedding(norm("words_norm")(bent), reverse=True))
        elif head == "sequence":
            pooled = dense(model_dim, "pooler", activation="tanh")(x[:, 0])
            outputs = dense(num_classes, "classes")(
                keras.layers.Dropout(dropout, name="head_dropout", **policy)(pooled)
            )
        elif head == "tokens":
            outputs = dense(num_classes, "classes")(head_dropout(x))
        if head is not None:
            outputs = ops.cast(outputs, "float32")
        super().__init__(inputs=inputs, outputs=outputs, name=name, trainable=trainable)
        self.dtype_policy = policy["dtype"]  # a functional model takes none; float16 trains with a scaled loss by it
        self.reader = reader
        self.segments = segments
        self.blocks = blocks

        # Settings
        self.vocabulary_size = vocabulary_size
        self.max_length = max_length
        self.model_dim = model_dim
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.feed_forward_dim = feed_forward_dim
        self.num_segments = num_segments
        self.head = head
        self.num_classes = num_classes
        self.activation = activation
        self.epsilon = epsilon
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.implementation = implementation
        self.rematerialize = rematerialize

    def __call__(self, inputs, *args, **kwargs):
        if isinstance(inputs, dict):  # Keras asks for every key, of optional inputs too
            optional = ["segment_ids", "masked_steps"] if self.head == "masked_words" else ["segment_ids"]
            inputs = {**dict.fromkeys(optional), **inputs}
        return super().__call__(inputs, *args, **kwargs)

    @classmethod
    def from_preset(cls, name, **settings):
        """The architecture of a published size, with new weights: "bert-tiny", "bert-mini", "bert-small",
        "bert-medium", "bert-base" or "bert-large".

        Args:
            name: str.
            **settings: what shall differ, as of the constructor.
        """
        return cls(**{**presets.sizes(presets.BERT, name), **settings})

    def hidden_states(self, ids, segment_ids=None):
        """What goes into the first block, and what comes out of each: list of `num_layers` + 1 tensors (B, T, D)."""
        mask = ops.not_equal(ids, PAD_ID)
        states = [self.reader(ids, add=lambda x: self.segments(x, segment_ids))]
        for block in self.blocks:
            states.append(block(states[-1], mask=mask))
        return states

    def get_config(self):
        return {
            "vocabulary_size": self.vocabulary_size,
            "max_length": self.max_length,
            "model_dim": self.model_dim,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "feed_forward_dim": self.feed_forward_dim,
            "num_segments": self.num_segments,
            "head": self.head,
            "num_classes": self.num_classes,
            "activation": self.activation,
            "epsilon": self.epsilon,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "implementation": self.implementation,
            "rematerialize": self.rematerialize,
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)
