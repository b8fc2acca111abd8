"""Sequence to sequence with attention."""

import keras
from keras import ops

from keras_seqattn.decoding import Greedy
from keras_seqattn.layers import (
    AttentionCell,
    BahdanauAttention,
    Bidirectional,
    ElmanCell,
    GRUCell,
    LocalAttention,
    LocationSensitiveAttention,
    LSTMCell,
    LuongAttention,
    MonotonicAttention,
    Recurrent,
    ScheduledSamplingCell,
    StackedCells,
)
from keras_seqattn.ops.arguments import is_count

CELLS = {"elman": ElmanCell, "gru": GRUCell, "lstm": LSTMCell}
ATTENTIONS = {  # from the settings of a model, and a dtype policy
    "bahdanau": lambda model, **policy: BahdanauAttention(model["units"], **policy),
    "concat": lambda model, **policy: LuongAttention("concat", units=model["units"], **policy),
    "dot": lambda model, **policy: LuongAttention("dot", **policy),
    "general": lambda model, **policy: LuongAttention("general", **policy),
    "local-m": lambda model, **policy: LocalAttention("general", model["window"], **policy),
    "local-p": lambda model, **policy: LocalAttention(
        "general", model["window"], alignment="predictive", units=model["units"], **policy
    ),
    "location": lambda model, **policy: LuongAttention("location", max_steps=model["max_source_length"], **policy),
    "location_sensitive": lambda model, **policy: LocationSensitiveAttention(
        model["units"], model["location_filters"], model["location_kernel_size"], **policy
    ),
    "monotonic": lambda model, **policy: MonotonicAttention(
        "normalized_bahdanau", model["units"], model["score_noise"], model["initial_score_bias"], **policy
    ),
    "normalized_bahdanau": lambda model, **policy: BahdanauAttention(model["units"], normalize=True, **policy),
}
PAD_ID = 0


@keras.saving.register_keras_serializable(package="keras_seqattn")
class SourceEncoder(keras.layers.Layer):
    """The reading half of `Seq2Seq`: what the decoder attends to, and the state that it begins with.

        memory_s = [forward_s; backward_s]                    num_layers deep
        state_0  = tanh(bridge([forward_S; backward_0]))      for each of the encoders' last h and c

    Args:
        vocabulary_size, embedding_dim, units, num_layers: int.
        cell: "lstm", "gru" or "elman".
        memory_dim: int, width to which the memory is projected, or None: as it is, 2 * `units`.
        dropout: float in [0, 1), on the embeddings and between the layers.
    Call arguments:
        source: (B, S) int, 0 where there is padding.
    Returns: memory (B, S, V); mask (B, S) bool, True where a step may be read; list of states (B, U).
    """

    def __init__(self, vocabulary_size, embedding_dim, units, num_layers, cell, memory_dim=None, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.embedding_dim = embedding_dim
        self.units = units
        self.num_layers = num_layers
        self.cell = cell
        self.memory_dim = memory_dim
        self.dropout = dropout
        policy = {"dtype": self.dtype_policy}
        self.embedding = keras.layers.Embedding(vocabulary_size, embedding_dim, name="embedding", **policy)
        self.dropouts = [
            keras.layers.Dropout(dropout, name=f"dropout_{index}", **policy) for index in range(num_layers)
        ]
        self.layers = [
            Bidirectional(
                Recurrent(CELLS[cell](units, **policy), return_sequences=True, return_state=True, **policy),
                name=f"layer_{index}",
                **policy,
            )
            for index in range(num_layers)
        ]
        self.bridges = [
            keras.layers.Dense(units, activation="tanh", name=f"bridge_{index}", **policy)
            for index in range(num_layers * (2 if cell == "lstm" else 1))
        ]
        self.memory_projection = None
        if memory_dim is not None:
            self.memory_projection = keras.layers.Dense(memory_dim, use_bias=False, name="memory_projection", **policy)

    def build(self, source_shape):
        self.embedding.build(source_shape)
        width = self.embedding_dim
        for layer in self.layers:
            layer.build((*source_shape, width))
            width = 2 * self.units
        for bridge in self.bridges:
            bridge.build((source_shape[0], width))
        if self.memory_projection is not None:
            self.memory_projection.build((*source_shape, width))

    def call(self, source, training=False):
        mask = ops.not_equal(source, PAD_ID)
        x, last = self.embedding(source), []
        for layer, dropout in zip(self.layers, self.dropouts, strict=True):
            x, *states = layer(dropout(x, training=training), mask=mask, training=training)
            half = len(states) // 2
            last += [ops.concatenate(both, axis=-1) for both in zip(states[:half], states[half:], strict=True)]
        states = [bridge(state) for bridge, state in zip(self.bridges, last, strict=True)]
        return x if self.memory_projection is None else self.memory_projection(x), mask, states

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "embedding_dim": self.embedding_dim,
            "units": self.units,
            "num_layers": self.num_layers,
            "cell": self.cell,
            "memory_dim": self.memory_dim,
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable(package="keras_seqattn")
class Seq2Seq(keras.Model):
    """Reads a source sequence in both directions, and writes a target sequence that attends to it.

        memory, state_0 = SourceEncoder(source)
        vector_t = AttentionCell(embedding(target_{t-1}), state_{t-1}, memory)
        logits_t = vector_t @ output_kernel + output_bias

    Trains by teacher forcing: `model({"source": ids, "target": ids that begin with the start token})` gives the logits
    of the target's next tokens. Id 0 is padding: it is read as nothing.

    Args:
        source_vocabulary_size, target_vocabulary_size: int, ids from 0.
        units: int, width U of the decoder's state and of each direction of the encoder; also of the attention vector.
        embedding_dim: int, width of the embeddings; None is `units`.
        num_layers: int, cells on top of each other, in encoder and decoder.
        cell: "lstm", "gru" or "elman".
        attention: "bahdanau", "normalized_bahdanau"; by Luong "dot", "general", "concat", "location", "local-m" or
            "local-p"; "monotonic" by Raffel et al.; or "location_sensitive" by Chorowski et al.
        attend: "after" the cell has run, or "before".
        input_feeding: bool, whether the cell also reads its last attention vector.
        dropout: float in [0, 1), on embeddings, between encoder layers and before the logits.
        teacher_forcing: share of the training steps' words that are the right ones; the others are the model's own
            (`ScheduledSamplingCell`). Float in [0, 1], or a schedule over training steps.
        window: int, steps that "local-m" and "local-p" read on each side of their position.
        max_source_length: int, steps that "location" reads; the end of a longer source is not read.
        score_noise, initial_score_bias: float, of "monotonic": noise in training, and how far it first looks: the
            lower, the further.
        location_filters, location_kernel_size: int, of "location_sensitive": number of filters, and the steps, an odd
            number, that each of them sees of the last scores.
        name, dtype, trainable: as of any Keras layer; `dtype` may be a policy, such as "mixed_bfloat16".
    Call arguments: dict of `source` (B, S) int and `target` (B, T) int.
    Returns: logits (B, T, target_vocabulary_size), float32.
    Raises: ValueError when a name is unknown or a number out of its range.
    References: Sutskever et al. 2014, arXiv 1409.3215; Bahdanau et al. 2015, arXiv 1409.0473; Luong et al. 2015,
        arXiv 1508.04025; Raffel et al. 2017, arXiv 1704.00784; Chorowski et al. 2015, arXiv 1506.07503.
    Example:
        >>> model = Seq2Seq(source_vocabulary_size=17, target_vocabulary_size=19, units=8)
        >>> tuple(model({"source": ops.ones((2, 5), "int32"), "target": ops.ones((2, 3), "int32")}).shape)
        (2, 3, 19)
        >>> tuple(model.generate(ops.ones((2, 5), "int32"), max_length=7, start_id=1, end_id=2).attention.shape)
        (2, 7, 5)
    """

    def __init__(
        self,
        source_vocabulary_size,
        target_vocabulary_size,
        units=256,
        embedding_dim=None,
        num_layers=1,
        cell="lstm",
        attention="general",
        attend="after",
        input_feeding=True,
        dropout=0.0,
        teacher_forcing=1.0,
        window=10,
        max_source_length=100,
        score_noise=1.0,
        initial_score_bias=-1.0,
        location_filters=32,
        location_kernel_size=31,
        name=None,
        dtype=None,
        trainable=True,
    ):
        if cell not in CELLS:
            raise ValueError(f"`cell` must be one of {', '.join(map(repr, CELLS))}. Received: {cell=}.")
        if attention not in ATTENTIONS:
            raise ValueError(f"`attention` must be one of {', '.join(map(repr, ATTENTIONS))}. Received: {attention=}.")
        width = units if embedding_dim is None else embedding_dim
        counts = {
            "source_vocabulary_size": source_vocabulary_size,
            "target_vocabulary_size": target_vocabulary_size,
            "units": units,
            "embedding_dim": width,
            "num_layers": num_layers,
            "window": window,
            "max_source_length": max_source_length,
            "location_filters": location_filters,
            "location_kernel_size": location_kernel_size,
        }
        for argument, count in counts.items():
            if not is_count(count):
                raise ValueError(f"`{argument}` must be an integer of at least 1. Received: {argument}={count!r}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` is a share in [0, 1). Received: {dropout=}.")
        policy = {"dtype": keras.dtype_policies.get(dtype)}

        # Parts
        encoder = SourceEncoder(
            source_vocabulary_size,
            width,
            units,
            num_layers,
            cell,
            memory_dim=units if attention == "dot" else None,  # the state's width, which "dot" needs
            dropout=dropout,
            name="encoder",
            **policy,
        )
        inner = [CELLS[cell](units, **policy) for _ in range(num_layers)]
        reading = {**counts, "score_noise": score_noise, "initial_score_bias": initial_score_bias}
        decoder_cell = AttentionCell(
            inner[0] if num_layers == 1 else StackedCells(inner, **policy),
            ATTENTIONS[attention](reading, **policy),
            attention_units=units,
            input_feeding=input_feeding,
            attend=attend,
            **policy,
        )
        target_embedding = keras.layers.Embedding(target_vocabulary_size, width, name="target_embedding", **policy)
        target_dropout = keras.layers.Dropout(dropout, name="target_dropout", **policy)
        output_dropout = keras.layers.Dropout(dropout, name="output_dropout", **policy)
        output_projection = keras.layers.Dense(target_vocabulary_size, name="output_projection", **policy)
        trained_cell, always = decoder_cell, isinstance(teacher_forcing, int | float) and teacher_forcing == 1
        if not always:
            trained_cell = ScheduledSamplingCell(
                decoder_cell, target_embedding, output_projection, teacher_forcing, **policy
            )
        decoder = Recurrent(trained_cell, return_sequences=True, name="decoder", **policy)

        # Graph
        source = keras.Input((None,), dtype="int32", name="source")
        target = keras.Input((None,), dtype="int32", name="target")
        memory, mask, states = encoder(source)
        if input_feeding:
            states = [*states, ops.zeros_like(states[0])]
        if not always:
            states = [*states, ops.cast(ops.zeros_like(states[0][:, :1]), "int32")]  # there is no word yet
        embedded = target_dropout(target_embedding(target))  # (B, T, D)
        vectors = decoder(embedded, initial_state=states, memory=memory, memory_mask=mask)  # (B, T, U)
        logits = ops.cast(output_projection(output_dropout(vectors)), "float32")
        super().__init__(inputs={"source": source, "target": target}, outputs=logits, name=name, trainable=trainable)
        self.dtype_policy = policy["dtype"]  # a functional model takes none; float16 trains with a scaled loss by it
        self.encoder = encoder
        self.target_embedding = target_embedding
        self.decoder_cell = decoder_cell
        self.decoder = decoder
        self.output_projection = output_projection

        # Settings
        self.source_vocabulary_size = source_vocabulary_size
        self.target_vocabulary_size = target_vocabulary_size
        self.units = units
        self.embedding_dim = embedding_dim
        self.num_layers = num_layers
        self.cell = cell
        self.attention = attention
        self.attend = attend
        self.input_feeding = input_feeding
        self.dropout = dropout
        self.teacher_forcing = teacher_forcing if always else trained_cell.teacher_forcing
        self.window = window
        self.max_source_length = max_source_length
        self.score_noise = score_noise
        self.initial_score_bias = initial_score_bias
        self.location_filters = location_filters
        self.location_kernel_size = location_kernel_size

    def encode(self, source):
        """Reads the source (B, S) int.

        Returns: memory (B, S, V); mask (B, S) bool, True where there is no padding; the decoder's first states, flat.
        """
        memory, mask, states = self.encoder(source)
        return memory, mask, [*states, ops.zeros_like(states[0])] if self.input_feeding else states

    def generate(self, source, max_length, start_id, end_id, decoder=None):
        """Writes an answer to each source, in graph.

        Args:
            source: (B, S) int.
            max_length: int, steps at most, the end token's included.
            start_id, end_id: int, the target's tokens that begin and end an answer.
            decoder: `Greedy()`, `Beam(...)` or another; greedy when None.
        Returns: `Decoded`, with the alignment of each answer in `attention` (B, T, S).
        """
        memory, beginning = self.begin_decoding(source, max_length, start_id)
        decoder = decoder or Greedy()
        return decoder(self.decoding_step(memory), max_length=max_length, end_id=end_id, **beginning)

    def begin_decoding(self, source, max_length, start_id):
        """Reads the source: all that `generate` does before its first step, as tensors that can be kept or sent.

        Args: as of `generate`; the state has one size, whatever `max_length` is.
        Returns: memory (B, S, ...), what each step reads and none changes: the source as the cell compares it; and the
            decoder's arguments `state` (B, ...), `start_ids` (B,) and `source_mask` (B, S).
        """
        memory, mask, states = self.encode(source)
        cell = self.decoder_cell
        prepared = InPolicy(cell.prepare_memory, cell.dtype_policy)((memory, mask))
        zeros = keras.tree.flatten(self._first_states(prepared))
        states = [*states, *zeros[len(states) :]]  # what the attention remembers begins as it does
        return prepared, {"state": states, "start_ids": ops.full_like(source[:, 0], start_id), "source_mask": mask}

    def decoding_step(self, memory):
        """The decoder's `step` after a source whose `begin_decoding` gave this memory."""
        cell, structure = self.decoder_cell, self._first_states(memory)

        def one_step(ids, states):
            nested = keras.tree.pack_sequence_as(structure, states)
            vector, nested, trace = cell.one_step(self.target_embedding(ids), nested, memory)
            return self.output_projection(vector), keras.tree.flatten(nested), trace["attention_scores"]

        one_step = InPolicy(one_step, cell.dtype_policy)

        def step(ids, states, time):
            logits, states, scores = one_step((ids, states))
            return ops.cast(logits, "float32") + never_padding, states, scores  # logits (B, V)

        # Padding is what stands after the end, so it must not be an answer's token.
        never_padding = -1e9 * ops.one_hot(PAD_ID, self.target_vocabulary_size, dtype="float32")  # (V,)
        return step

    def _first_states(self, prepared):
        """The cell's states before it has read anything (B, ...), nested as it nests them."""
        return self.decoder_cell.get_initial_state(batch_size=ops.shape(prepared[0]["value"])[0], memory=prepared)

    def align(self, source, target):
        """What each target step reads of the source when the target is given: attention scores (B, T, S)."""
        memory, mask, states = self.encode(source)
        reader = Recurrent(self.decoder_cell, return_trace=True, dtype=self.decoder.dtype_policy)
        _, trace = reader(self.target_embedding(target), initial_state=states, memory=memory, memory_mask=mask)
        return trace["attention_scores"]

    def get_config(self):
        return {
            "source_vocabulary_size": self.source_vocabulary_size,
            "target_vocabulary_size": self.target_vocabulary_size,
            "units": self.units,
            "embedding_dim": self.embedding_dim,
            "num_layers": self.num_layers,
            "cell": self.cell,
            "attention": self.attention,
            "attend": self.attend,
            "input_feeding": self.input_feeding,
            "dropout": self.dropout,
            "teacher_forcing": (
                keras.saving.serialize_keras_object(self.teacher_forcing)
                if callable(self.teacher_forcing)
                else self.teacher_forcing
            ),
            "window": self.window,
            "max_source_length": self.max_source_length,
            "score_noise": self.score_noise,
            "initial_score_bias": self.initial_score_bias,
            "location_filters": self.location_filters,
            "location_kernel_size": self.location_kernel_size,
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


class InPolicy(keras.layers.Layer):
    """A function run as a layer runs its `call`: float inputs and weights are cast to the compute dtype of `dtype`."""

    def __init__(self, function, dtype):
        super().__init__(dtype=dtype)
        self.function = function
        self.supports_masking = True

    def call(self, inputs):
        return self.function(*inputs)

    def compute_mask(self, inputs, mask=None):
        return None
