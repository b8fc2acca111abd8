"""GPT: decoder blocks alone."""

import keras
from keras import ops

from keras_seqattn.decoding import Greedy
from keras_seqattn.layers import TokenEmbedding, TransformerDecoder
from keras_seqattn.layers.transformer.transformer_block import make_norm
from keras_seqattn.models import presets
from keras_seqattn.models.reading import ADDED, COMPARED, Reader, check_heads, check_sizes


@keras.saving.register_keras_serializable(package="keras_seqattn")
class GPT(keras.Model):
    """Tells what comes next, and so writes on.

        x      = decoder blocks (embedding(ids) + positions)        pre-norm, without a memory
        logits = norm(x) @ transpose(embedding)

    Trains on texts shifted by one: `model(ids[:, :-1])` gives the logits of `ids[:, 1:]`.

    Args:
        vocabulary_size: int, ids from 0.
        max_length: int, the longest text that "learned" positions know.
        model_dim: int, width D.
        num_layers: int, blocks.
        num_heads: int, heads of each attention; it divides `model_dim`.
        feed_forward_dim: int, width F; None is 4 * `model_dim`.
        positions: "learned" or "sinusoidal", added to the embeddings; "rotary", "alibi" or "relative", in the
            attention, which then reads texts of any length; or None.
        activation, gated, normalization, epsilon, dropout, attention_dropout, activation_dropout, num_kv_heads,
            sliding_window, use_bias, implementation, rematerialize: of the blocks, see `TransformerEncoder`; `dropout`
            also on the embeddings.
        tie_output: bool, whether the logits come from the embedding too.
        name, dtype, trainable: as of any Keras layer; `dtype` may be a policy, such as "mixed_bfloat16".
    Call arguments:
        ids: (B, T) int.
    Returns: logits (B, T, vocabulary_size), float32.
    Raises: ValueError when a name is unknown or a number out of its range.
    References: Radford et al. 2018 and 2019 ("Language Models are Unsupervised Multitask Learners", sec. 2.3).
    Example:
        >>> model = GPT(vocabulary_size=19, max_length=11, model_dim=8, num_layers=2, num_heads=2)
        >>> tuple(model(ops.ones((2, 5), "int32")).shape)
        (2, 5, 19)
        >>> tuple(model.generate(ops.ones((2, 5), "int32"), max_length=6).ids.shape)
        (2, 6)
    """

    def __init__(
        self,
        vocabulary_size=50257,
        max_length=1024,
        model_dim=768,
        num_layers=12,
        num_heads=12,
        feed_forward_dim=None,
        positions="learned",
        activation="gelu_tanh",
        gated=False,
        normalization="layer",
        epsilon=1e-5,
        dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.0,
        num_kv_heads=None,
        sliding_window=None,
        use_bias=True,
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
            vocabulary_size=vocabulary_size,
            model_dim=model_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            feed_forward_dim=4 * model_dim if feed_forward_dim is None else feed_forward_dim,
        )
        check_heads(model_dim, num_heads)
        policy = {"dtype": keras.dtype_policies.get(dtype)}
        small = keras.initializers.RandomNormal(stddev=0.02)  # of the published code

        # Parts
        added = ADDED.get(positions)
        reader = Reader(
            TokenEmbedding(
                vocabulary_size,
                model_dim,
                tie_weights=tie_output,
                embeddings_initializer=small.clone(),
                name="embedding",
                **policy,
            ),
            None if added is None else added(max_length, name="positions", **policy),
            keras.layers.Dropout(dropout, name="dropout", **policy),
        )
        blocks = [
            TransformerDecoder(
                num_heads,
                4 * model_dim if feed_forward_dim is None else feed_forward_dim,
                num_kv_heads=num_kv_heads,
                positions=positions if positions in COMPARED else None,
                sliding_window=sliding_window,
                implementation=implementation,
                activation=activation,
                gated=gated,
                normalize_first=True,
                normalization=normalization,
                epsilon=epsilon,
                dropout=dropout,
                attention_dropout=attention_dropout,
                activation_dropout=activation_dropout,
                use_bias=use_bias,
                kernel_initializer=small.clone(),
                rematerialize=rematerialize,
                name=f"block_{index}",
                **policy,
            )
            for index in range(num_layers)
        ]
        last_norm = make_norm(normalization, epsilon, name="last_norm", **policy)

        # Graph
        ids = keras.Input((None,), dtype="int32", name="ids")
        x = reader(ids)
        for block in blocks:
            x = block(x)
        logits = ops.cast(reader.embedding(last_norm(x), reverse=True), "float32")
        super().__init__(inputs=ids, outputs=logits, name=name, trainable=trainable)
        self.dtype_policy = policy["dtype"]  # a functional model takes none; float16 trains with a scaled loss by it
        self.reader = reader
        self.blocks = blocks
        self.last_norm = last_norm

        # Settings
        self.vocabulary_size = vocabulary_size
        self.max_length = max_length
        self.model_dim = model_dim
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.feed_forward_dim = feed_forward_dim
        self.positions = positions
        self.activation = activation
        self.gated = gated
        self.normalization = normalization
        self.epsilon = epsilon
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation_dropout = activation_dropout
        self.num_kv_heads = num_kv_heads
        self.sliding_window = sliding_window
        self.use_bias = use_bias
        self.tie_output = tie_output
        self.implementation = implementation
        self.rematerialize = rematerialize

    @classmethod
    def from_preset(cls, name, **settings):
        """The architecture of a published size, with new weights: "gpt2-small", "gpt2-medium", "gpt2-large", "gpt2-xl".

        Args:
            name: str.
            **settings: what shall differ, as of the constructor.
        """
        return cls(**{**presets.sizes(presets.GPT, name), **settings})

    def hidden_states(self, ids, mask=None):
        """What goes into the first block, and what comes out of each; the last one normalized.

        Args:
            ids: (B, T) int.
            mask: (B, T) bool, True where a step may be read.
        Returns: list of `num_layers` + 1 tensors (B, T, D).
        """
        states = [self.reader(ids)]
        for block in self.blocks:
            states.append(block(states[-1], mask=mask))
        return [*states[:-1], self.last_norm(states[-1])]

    def generate(self, prompt, max_length, end_id=None, decoder=None, prompt_mask=None):
        """Writes on from each prompt, in graph. Keys and values of what was read are kept, not computed again.

        Args:
            prompt: (B, P) int, at least one token each.
            max_length: int, new tokens at most, the end token included.
            end_id: int, the token that ends a text; None goes on to `max_length`.
            decoder: `Greedy()`, `Sampling(...)`, `Beam(...)` or another; greedy when None.
            prompt_mask: (B, P) bool, True where the prompt is; its tokens may stand first, last or apart, but each
                prompt has at least one. None reads all.
        Returns: `Decoded`, the new tokens alone.
        Raises: ValueError when a prompt is empty, or with what may follow it longer than the learned positions.
        """
        memory, beginning = self.begin_decoding(prompt, max_length, prompt_mask)
        end_id = -1 if end_id is None else end_id  # no token is -1
        decoder = decoder or Greedy()
        return decoder(self.decoding_step(memory), max_length=max_length, end_id=end_id, **beginning)

    def begin_decoding(self, prompt, max_length, prompt_mask=None, num_slots=None):
        """Reads the prompts: all that `generate` does before its first step, as tensors that can be kept or sent.

        Args:
            prompt, max_length, prompt_mask: as of `generate`.
            num_slots: int, steps for which the caches have room, at least P + `max_length` - 1; None is just that.
                With one number for all prompts the state has one shape, whatever their length.
        Returns: memory, what each step reads and none changes: `first` () int, the slot of the first step; and the
            decoder's arguments `state` (N, ...), `start_ids` (B,), `prompt_ids` and `prompt_mask` (B, P).
        Raises: ValueError as `generate`.
        """
        self._check_lengths(prompt, max_length)
        batch, length = ops.shape(prompt)[:2]
        prompt_mask = ops.ones((batch, length), "bool") if prompt_mask is None else ops.cast(prompt_mask, "bool")
        prompt, mask = to_the_right(prompt, prompt_mask)
        counted = ops.cumsum(ops.cast(mask, "int32"), axis=1)  # (B, P)
        if num_slots is None:
            num_slots = length - 1 + max_length
            if self.sliding_window is not None and not isinstance(num_slots, int):
                num_slots = self.sliding_window  # a ring needs no more, and has a static size
        caches = [block.get_initial_cache(batch, num_slots) for block in self.blocks]
        if prompt.shape[1] != 1:  # all but the last token, which the decoder begins with
            x = self.reader(prompt[:, :-1], ops.maximum(counted[:, :-1] - 1, 0))
            for index, block in enumerate(self.blocks):
                x, caches[index] = block(x, mask=mask[:, :-1], cache=caches[index], cache_index=0)
        state = {"caches": caches, "positions": counted[:, -1] - 1}
        beginning = {"state": state, "start_ids": prompt[:, -1], "prompt_ids": prompt, "prompt_mask": mask}
        return {"first": length - 1}, beginning

    def decoding_step(self, memory):
        """The decoder's `step` after prompts whose `begin_decoding` gave this memory."""
        first = memory["first"]
        kernel = self.reader.embedding.output_kernel()  # once, and not at each step

        def step(ids, state, time):
            x = self.reader(ids[:, None], state["positions"][:, None])  # (N, 1, D)
            new_caches = []
            for block, cache in zip(self.blocks, state["caches"], strict=True):
                x, cache = block(x, cache=cache, cache_index=first + time)
                new_caches.append(cache)
            logits = ops.cast(ops.matmul(self.last_norm(x)[:, 0], kernel), "float32")  # (N, V)
            return logits, {"caches": new_caches, "positions": state["positions"] + 1}, None

        return step

    def _check_lengths(self, prompt, max_length):
        length = prompt.shape[1]
        if length == 0:
            raise ValueError(
                "A prompt must hold at least one token, such as the one that stands between texts. "
                f"Received: a prompt of shape {tuple(prompt.shape)}."
            )
        if self.positions == "learned" and length is not None and length + max_length > self.max_length + 1:
            raise ValueError(
                "The last token that is read must have a position, so the prompt's length + `max_length` - 1 must not "
                f"exceed the model's {self.max_length}. Received: a prompt of {length} tokens, {max_length=}."
            )

    def get_config(self):
        return {
            "vocabulary_size": self.vocabulary_size,
            "max_length": self.max_length,
            "model_dim": self.model_dim,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "feed_forward_dim": self.feed_forward_dim,
            "positions": self.positions,
            "activation": self.activation,
            "gated": self.gated,
            "normalization": self.normalization,
            "epsilon": self.epsilon,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "activation_dropout": self.activation_dropout,
            "num_kv_heads": self.num_kv_heads,
            "sliding_window": self.sliding_window,
            "use_bias": self.use_bias,
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


def to_the_right(ids, mask):
    """Prompts (B, P) moved so that all end at the last step, their order kept; and their new mask (B, P)."""
    order = ops.argsort(ops.cast(mask, "int32"), axis=1)  # stable: what does not count stands first
    return ops.take_along_axis(ids, order, axis=1), ops.take_along_axis(mask, order, axis=1)
