"""The Transformer."""

import keras
from keras import ops

from keras_seqattn.decoding import Greedy
from keras_seqattn.layers import TokenEmbedding, TransformerDecoder, TransformerEncoder
from keras_seqattn.layers.transformer.transformer_block import make_norm
from keras_seqattn.models import presets
from keras_seqattn.models.reading import ADDED, COMPARED, Reader, check_heads, check_sizes

PAD_ID = 0


@keras.saving.register_keras_serializable(package="keras_seqattn")
class Transformer(keras.Model):
    """Reads a source sequence and writes a target sequence, by attention alone.

        memory = encoder blocks (positions(embedding(source)))
        x      = decoder blocks (positions(embedding(target)), memory)
        logits = x @ transpose(target embedding)

    Trains by teacher forcing: `model({"source": ids, "target": ids that begin with the start token})` gives the logits
    of the target's next tokens. Id 0 is padding: it is read as nothing.

    Args:
        source_vocabulary_size, target_vocabulary_size: int, ids from 0.
        model_dim: int, width D.
        num_heads: int, heads of each attention; it divides `model_dim`.
        num_layers: int, blocks of the encoder.
        num_decoder_layers: int, blocks of the decoder; None as many.
        feed_forward_dim: int, width F; None is 4 * `model_dim`.
        positions: "sinusoidal" or "learned", added to the embeddings; "rotary", "alibi" or "relative", in the
            self-attention; or None.
        max_length: int, the longest source or target that "learned" positions know.
        activation, gated, normalize_first, normalization, epsilon, dropout, attention_dropout, activation_dropout,
            num_kv_heads, sliding_window, implementation, rematerialize: of the blocks, see `TransformerEncoder`;
            `dropout` also on the embeddings.
        share_embeddings: bool, whether source and target are ids of one vocabulary, with one matrix.
        tie_output: bool, whether the logits come from the target's embedding too.
        name, dtype, trainable: as of any Keras layer; `dtype` may be a policy, such as "mixed_bfloat16".
    Call arguments: dict of `source` (B, S) int and `target` (B, T) int.
    Returns: logits (B, T, target_vocabulary_size), float32.
    Raises: ValueError when a name is unknown or a number out of its range.
    Reference: Vaswani et al. 2017, arXiv 1706.03762.
    Example:
        >>> sizes = {"model_dim": 8, "num_heads": 2, "num_layers": 2}
        >>> model = Transformer(source_vocabulary_size=17, target_vocabulary_size=19, **sizes)
        >>> tuple(model({"source": ops.ones((2, 5), "int32"), "target": ops.ones((2, 3), "int32")}).shape)
        (2, 3, 19)
        >>> tuple(model.generate(ops.ones((2, 5), "int32"), max_length=7, start_id=1, end_id=2).attention.shape)
        (2, 7, 5)
    """

    def __init__(
        self,
        source_vocabulary_size,
        target_vocabulary_size,
        model_dim=512,
        num_heads=8,
        num_layers=6,
        num_decoder_layers=None,
        feed_forward_dim=None,
        positions="sinusoidal",
        max_length=None,
        activation="relu",
        gated=False,
        normalize_first=False,
        normalization="layer",
        epsilon=1e-6,
        dropout=0.1,
        attention_dropout=0.0,
        activation_dropout=0.0,
        num_kv_heads=None,
        sliding_window=None,
        share_embeddings=False,
        tie_output=True,
        implementation="auto",
        rematerialize=False,
        name=None,
        dtype=None,
        trainable=True,
    ):
        check_sizes(
            positions,
            max_length,
            source_vocabulary_size=source_vocabulary_size,
            target_vocabulary_size=target_vocabulary_size,
            model_dim=model_dim,
            num_heads=num_heads,
            num_layers=num_layers,
            num_decoder_layers=num_layers if num_decoder_layers is None else num_decoder_layers,
            feed_forward_dim=4 * model_dim if feed_forward_dim is None else feed_forward_dim,
        )
        check_heads(model_dim, num_heads)
        if share_embeddings and source_vocabulary_size != target_vocabulary_size:
            raise ValueError(
                "`share_embeddings` reads source and target by one matrix, so their vocabularies must have one size. "
                f"Received: {source_vocabulary_size=}, {target_vocabulary_size=}."
            )
        policy = {"dtype": keras.dtype_policies.get(dtype)}
        block = {
            "num_heads": num_heads,
            "feed_forward_dim": 4 * model_dim if feed_forward_dim is None else feed_forward_dim,
            "positions": positions if positions in COMPARED else None,
            "activation": activation,
            "gated": gated,
            "normalize_first": normalize_first,
            "normalization": normalization,
            "epsilon": epsilon,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "activation_dropout": activation_dropout,
            "num_kv_heads": num_kv_heads,
            "sliding_window": sliding_window,
            "implementation": implementation,
            "rematerialize": rematerialize,
            **policy,
        }

        # Parts
        def reader(vocabulary_size, side, embedding=None):
            added = ADDED.get(positions)
            options = {"embeddings_initializer": keras.initializers.RandomNormal(stddev=model_dim**-0.5)}
            return Reader(
                embedding
                or TokenEmbedding(
                    vocabulary_size,
                    model_dim,
                    scale=True,
                    tie_weights=tie_output or side == "source",
                    name=f"{side}_embedding",
                    **options,
                    **policy,
                ),
                None if added is None else added(max_length, name=f"{side}_positions", **policy),
                keras.layers.Dropout(dropout, name=f"{side}_dropout", **policy),
            )

        def last_norm(side):
            return make_norm(normalization, epsilon, name=f"{side}_norm", **policy) if normalize_first else lambda x: x

        target_reader = reader(target_vocabulary_size, "target")
        source_reader = reader(source_vocabulary_size, "source", target_reader.embedding if share_embeddings else None)
        encoder_blocks = [TransformerEncoder(**block, name=f"encoder_{index}") for index in range(num_layers)]
        decoder_blocks = [
            TransformerDecoder(**block, name=f"decoder_{index}") for index in range(num_decoder_layers or num_layers)
        ]
        encoder_norm, decoder_norm = last_norm("encoder"), last_norm("decoder")

        # Graph
        source = keras.Input((None,), dtype="int32", name="source")
        target = keras.Input((None,), dtype="int32", name="target")
        mask = ops.not_equal(source, PAD_ID)
        memory = source_reader(source)
        for encoder in encoder_blocks:
            memory = encoder(memory, mask=mask)
        memory = encoder_norm(memory)
        x = target_reader(target)  # its padding stands last, where no step before it reads
        for decoder in decoder_blocks:
            x = decoder(x, memory, memory_mask=mask)
        logits = ops.cast(target_reader.embedding(decoder_norm(x), reverse=True), "float32")
        super().__init__(inputs={"source": source, "target": target}, outputs=logits, name=name, trainable=trainable)
        self.dtype_policy = policy["dtype"]  # a functional model takes none; float16 trains with a scaled loss by it
        self.source_reader = source_reader
        self.target_reader = target_reader
        self.encoder_blocks = encoder_blocks
        self.decoder_blocks = decoder_blocks
        self.encoder_norm = encoder_norm
        self.decoder_norm = decoder_norm

        # Settings
        self.source_vocabulary_size = source_vocabulary_size
        self.target_vocabulary_size = target_vocabulary_size
        self.model_dim = model_dim
        self.num_heads = num_heads
        self.num_layers = num_layers
        self.num_decoder_layers = num_decoder_layers
        self.feed_forward_dim = feed_forward_dim
        self.positions = positions
        self.max_length = max_length
        self.activation = activation
        self.gated = gated
        self.normalize_first = normalize_first
        self.normalization = normalization
        self.epsilon = epsilon
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation_dropout = activation_dropout
        self.num_kv_heads = num_kv_heads
        self.sliding_window = sliding_window
        self.share_embeddings = share_embeddings
        self.tie_output = tie_output
        self.implementation = implementation
        self.rematerialize = rematerialize

    @classmethod
    def from_preset(cls, name, **settings):
        """The architecture of a published size, with new weights: "transformer-tiny" (Multi30k), "transformer-base" or
        "transformer-big".

        Args:
            name: str.
            **settings: the vocabularies' sizes, and what shall differ, as of the constructor.
        """
        return cls(**{**presets.sizes(presets.TRANSFORMER, name), **settings})

    def encode(self, source):
        """Reads the source (B, S) int.

        Returns: memory (B, S, D), and its mask (B, S) bool, True where there is no padding.
        """
        mask = ops.not_equal(source, PAD_ID)
        memory = self.source_reader(source)
        for block in self.encoder_blocks:
            memory = block(memory, mask=mask)
        return self.encoder_norm(memory), mask

    def generate(self, source, max_length, start_id, end_id, decoder=None):
        """Writes an answer to each source, in graph. Keys and values of what is written are kept, not computed again.

        Args:
            source: (B, S) int.
            max_length: int, steps at most, the end token's included.
            start_id, end_id: int, the target's tokens that begin and end an answer.
            decoder: `Greedy()`, `Beam(...)` or another; greedy when None.
        Returns: `Decoded`, with what each answer read of the source in `attention` (B, T, S), as `align` gives it.
        Raises: ValueError when `max_length` is above the learned positions.
        """
        memory, beginning = self.begin_decoding(source, max_length, start_id)
        decoder = decoder or Greedy()
        return decoder(self.decoding_step(memory), max_length=max_length, end_id=end_id, **beginning)

    def begin_decoding(self, source, max_length, start_id):
        """Reads the source: all that `generate` does before its first step, as tensors that can be kept or sent.

        Args: as of `generate`.
        Returns: memory, what each step reads and none changes: an AttentionCache (B, S, ...) for each decoder block;
            and the decoder's arguments `state` (B, ...), `start_ids` (B,) and `source_mask` (B, S).
        Raises: ValueError as `generate`.
        """
        if self.positions == "learned" and max_length > self.max_length:
            raise ValueError(
                "An answer may not be longer than the learned positions. "
                f"Received: {max_length=}, a model of max_length={self.max_length}."
            )
        memory, mask = self.encode(source)
        read = [block.make_memory_cache(memory, mask) for block in self.decoder_blocks]
        batch = ops.shape(source)[0]
        caches = [block.get_initial_cache(batch, max_length) for block in self.decoder_blocks]
        start_ids = ops.full_like(source[:, 0], start_id)
        return read, {"state": caches, "start_ids": start_ids, "source_mask": mask}

    def decoding_step(self, memory):
        """The decoder's `step` after a source whose `begin_decoding` gave this memory."""
        kernel = self.target_reader.embedding.output_kernel()  # once, and not at each step
        # Padding is what stands after the end, so it must not be an answer's token.
        never_padding = -1e9 * ops.one_hot(PAD_ID, self.target_vocabulary_size, dtype="float32")  # (V,)

        def step(ids, caches, time):
            x = self.target_reader(ids[:, None], ops.reshape(time, (1,)))  # (B, 1, D)
            new_caches = []
            for index, (block, cache, memory_cache) in enumerate(zip(self.decoder_blocks, caches, memory, strict=True)):
                options = {"cache": cache, "cache_index": time, "memory_cache": memory_cache}
                if index == self.alignment_layer:
                    x, _, scores, cache = block(x, return_attention_scores=True, **options)  # scores (B, H, 1, S)
                else:
                    x, cache = block(x, **options)
                new_caches.append(cache)
            logits = ops.cast(ops.matmul(self.decoder_norm(x)[:, 0], kernel), "float32") + never_padding
            return logits, new_caches, ops.cast(ops.mean(scores, axis=1)[:, 0], "float32")

        return step

    @property
    def alignment_layer(self):
        """The last block but one: its heads' mean comes closest to an alignment of words (Garg et al. 2019,
        arXiv 1909.02074, sec. 4.2); of a single block, that one."""
        return max(len(self.decoder_blocks) - 2, 0)

    def align(self, source, target):
        """What each target step reads of the source when the target is given: (B, T, S), the mean over the heads of
        the last decoder block but one."""
        memory, mask = self.encode(source)
        x = self.target_reader(target)
        for block in self.decoder_blocks[: self.alignment_layer]:
            x = block(x, memory, memory_mask=mask)
        block = self.decoder_blocks[self.alignment_layer]
        _, _, scores = block(x, memory, memory_mask=mask, return_attention_scores=True)  # (B, H, T, S)
        return ops.mean(scores, axis=1)

    def get_config(self):
        return {
            "source_vocabulary_size": self.source_vocabulary_size,
            "target_vocabulary_size": self.target_vocabulary_size,
            "model_dim": self.model_dim,
            "num_heads": self.num_heads,
            "num_layers": self.num_layers,
            "num_decoder_layers": self.num_decoder_layers,
            "feed_forward_dim": self.feed_forward_dim,
            "positions": self.positions,
            "max_length": self.max_length,
            "activation": self.activation,
            "gated": self.gated,
            "normalize_first": self.normalize_first,
            "normalization": self.normalization,
            "epsilon": self.epsilon,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "activation_dropout": self.activation_dropout,
            "num_kv_heads": self.num_kv_heads,
            "sliding_window": self.sliding_window,
            "share_embeddings": self.share_embeddings,
            "tie_output": self.tie_output,
            "implementation": self.implementation,
            "rematerialize": self.rematerialize,
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)
