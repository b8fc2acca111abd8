"""A decoder's cell that learns to go on from its own words."""

import keras
from keras import ops

from keras_seqattn.layers.nesting import revive, serialize_shared
from keras_seqattn.layers.recurrent.cell import step_and_read
from keras_seqattn.layers.recurrent.wrapper_cell import WrapperCell
from keras_seqattn.ops import keep_rows


@keras.saving.register_keras_serializable(package="keras_seqattn")
class ScheduledSamplingCell(WrapperCell):
    """A decoder's cell that in training reads now the right word, now its own: scheduled sampling.

        x_t          = inputs_t                             with probability teacher_forcing(i), and at the first step
                       embedding(prediction_{t-1})          otherwise
        output_t     = cell(x_t)
        prediction_t ~ softmax(projection(output_t))        the most likely one unless `sample`

    Each row and step tosses a coin of its own; i counts the training steps, so the probability anneals inside `fit`.
    Outside of training every step reads its inputs, and the cell is the one within. Shapes are static: it compiles
    under XLA. As in the paper, no gradient passes through the choice of a prediction.

    Args:
        cell: the decoder's cell, ours or Keras's, attending or not.
        embedding: layer from ids (B,) to inputs (B, D), the one that made the inputs.
        projection: layer from the cell's output (B, U) to logits (B, C).
        teacher_forcing: probability that a step reads its inputs: float in [0, 1], or a schedule over training steps,
            such as `keras_seqattn.schedules.InverseSigmoidDecay(k)`.
        sample: bool, whether predictions are drawn; False takes the most likely.
        seed: int, of the coins and draws.
    Call arguments:
        inputs: (B, D) float, one step: the embedded right words.
        states: list of the cell's states, and of the last prediction plus one (B, 1) int, 0 before the first.
        memory, memory_mask: (B, S, V) float and (B, S) bool, where the cell attends.
    Returns: the cell's output and states, and the prediction. Trace: the cell's.
    Raises: ValueError when `cell` is no cell, or `teacher_forcing` neither a probability nor a schedule.
    Reference: Bengio et al. 2015, Scheduled Sampling for Sequence Prediction, arXiv 1506.03099.
    Example:
        >>> embedding, projection = keras.layers.Embedding(17, 7), keras.layers.Dense(17)
        >>> schedule = keras_seqattn.schedules.InverseSigmoidDecay(k=1000.0)
        >>> cell = ScheduledSamplingCell(keras_seqattn.layers.GRUCell(13), embedding, projection, schedule)
        >>> decoder = keras_seqattn.layers.Recurrent(cell, return_sequences=True)
        >>> tuple(projection(decoder(embedding(ops.ones((2, 5), "int32")), training=True)).shape)
        (2, 5, 17)
    """

    def __init__(self, cell, embedding, projection, teacher_forcing=1.0, sample=True, seed=None, **kwargs):
        super().__init__(cell, **kwargs)
        if isinstance(teacher_forcing, dict):
            teacher_forcing = keras.saving.deserialize_keras_object(teacher_forcing)
        is_schedule = isinstance(teacher_forcing, keras.optimizers.schedules.LearningRateSchedule)
        if not is_schedule and not (isinstance(teacher_forcing, int | float) and 0 <= teacher_forcing <= 1):
            raise ValueError(
                "`teacher_forcing` is a probability in [0, 1], or a schedule such as `InverseSigmoidDecay(k)`. "
                f"Received: {teacher_forcing=}."
            )
        self.embedding = embedding
        self.projection = projection
        self.teacher_forcing = teacher_forcing
        self.sample = sample
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    @property
    def state_size(self):
        inner = self.cell.state_size
        return [list(inner) if isinstance(inner, list | tuple) else [inner], 1]

    @property
    def loop_output_size(self):
        return self.output_size

    def build(self, inputs_shape, memory_shape=None):
        super().build(inputs_shape, memory_shape)
        shapes = ((self.embedding, inputs_shape[:1]), (self.projection, (inputs_shape[0], self.output_size)))
        for layer, shape in shapes:
            if not layer.built:
                layer.build(shape)
                layer.built = True
        self.training_steps = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="training_steps"
        )

    def get_initial_state(self, batch_size=None, memory=None):
        return [super().get_initial_state(batch_size, memory), ops.zeros((batch_size, 1), dtype="int32")]

    def probability(self):
        """Of a training step that reads its inputs, now."""
        if callable(self.teacher_forcing):
            return self.teacher_forcing(self.training_steps)
        return self.teacher_forcing

    def begin(self, rows, width, length, memory=None, training=False):
        noise = super().begin(rows, width, length, memory, training)
        if not training:
            return [noise, ()]
        coin, draw = (keras.random.uniform((length, rows), seed=self.seed_generator) for _ in range(2))
        teacher = coin < ops.cast(self.probability(), coin.dtype)
        self.training_steps.assign(self.training_steps + 1)
        return [noise, {"teacher": teacher, "draw": draw}]

    def get_dropout_mask(self, step_input):
        self.drawn_ahead = ops.zeros(())  # something drawn at every step: refused in training, nothing else

    def step(self, projected, states, memory=None, training=False, noise=()):
        (inner, last), (inner_noise, drawn) = states, noise or [(), ()]
        if drawn:
            own = self.project(self.embedding(ops.maximum(last[:, 0] - 1, 0)))
            projected = keep_rows(ops.logical_or(drawn["teacher"], last[:, 0] == 0), projected, own)
        output, inner, trace = step_and_read(
            self.inner, self.projected_within(projected), inner, memory, training, inner_noise
        )
        if drawn:
            last = self.predict(output, drawn["draw"]) + 1
        return output, [inner, last], trace

    def predict(self, output, draw):
        """The ids (B, 1) that follow an output (B, U), by draws (B,) from [0, 1)."""
        logits = ops.cast(ops.stop_gradient(self.projection(output)), "float32")  # (B, C)
        if not self.sample:
            return ops.cast(ops.argmax(logits, axis=-1), "int32")[:, None]
        reached = ops.cumsum(ops.softmax(logits, axis=-1), axis=-1) <= draw[:, None]
        ids = ops.sum(ops.cast(reached, "int32"), axis=-1, keepdims=True)
        return ops.minimum(ids, logits.shape[-1] - 1)  # rounding may leave the sum below the draw

    def hidden(self, states):
        return self.inner.hidden(states[0])

    def readout(self, outputs, memory=None, training=False):
        return outputs, {}

    def get_config(self):
        teacher_forcing = self.teacher_forcing
        if callable(teacher_forcing):
            teacher_forcing = keras.saving.serialize_keras_object(teacher_forcing)
        return {
            **super().get_config(),
            "embedding": serialize_shared(self.embedding),
            "projection": serialize_shared(self.projection),
            "teacher_forcing": teacher_forcing,
            "sample": self.sample,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**revive(config, "cell", "embedding", "projection"))
