"""A token by chance at every step."""

import keras
from keras import ops

from keras_seqattn.decoding.buffers import is_number
from keras_seqattn.decoding.one_answer import IMPOSSIBLE, OneAnswer
from keras_seqattn.ops.arguments import is_count


class Sampling(OneAnswer):
    """Draws a token at every step, from the likely ones if so asked.

        probs  = softmax(logits / temperature)
        probs  = the `top_k` largest of them, then the fewest that reach `top_p`, both if given
        ids[t] = argmax of log(probs) + noise, noise = -log(-log(uniform))

    which draws from `probs` (the Gumbel-max trick). `Decoded.scores` are log-probabilities of the model itself, without
    temperature and filters, so that they compare with those of other decoders.

    `top_k` makes the step cheaper: noise is drawn for its tokens alone. `top_p` sorts: give it a `top_k` as well,
    say 100, where the vocabulary is large.

    Args:
        temperature: float, above 0; below 1 favours the likely tokens, towards 0 it is `Greedy`.
        top_k: int, tokens that may be drawn at each step, at least 1; None, or the vocabulary's size and more, for all.
        top_p: float in (0, 1], probability that the tokens to be drawn reach together; None or 1 for all.
        seed: int: the same call gives the same answers, with the same rows on the same backend; XLA's generator on
            TensorFlow is another one. None: each call gives new ones, in a saved model too.
            `keras.random.SeedGenerator`: new ones at each call, the same in each run. Its state is a variable: on JAX a
            jitted function must carry it, as any Keras variable, and an export must track it.
        constraints: sequence of `Constraint`s that act on the logits first; () costs nothing.
    Call arguments: as those of `Greedy`.
    Returns: `Decoded`.
    Raises: ValueError when a setting is out of its range; on JAX also when a function is jitted without a seed.
    Reference: Fan et al. 2018, arXiv 1805.04833 (top_k); Holtzman et al. 2020, arXiv 1904.09751 (top_p);
        Maddison et al. 2014, arXiv 1411.0030 (Gumbel-max).
    Example:
        >>> def step(ids, state, time):  # 4 ends
        ...     return ops.tile([[0.0, 5.0, 3.0, 3.0, 2.0]], (ops.shape(ids)[0], 1)), state, None
        >>> found = Sampling(top_k=3, seed=7)(step, [], ops.zeros((2,)), max_length=6, end_id=4)
        >>> set(ops.convert_to_numpy(found.ids).flatten().tolist()) <= {1, 2, 3}
        True
    """

    def __init__(self, temperature=1.0, top_k=None, top_p=None, seed=None, constraints=()):
        super().__init__(constraints)
        if not (is_number(temperature) and temperature > 0):
            raise ValueError(
                f"`temperature` must be a number above 0; `Greedy` is its limit. Received: {temperature=}."
            )
        if top_k is not None and not is_count(top_k):
            raise ValueError(f"`top_k` is a number of tokens and must be an integer of at least 1. Received: {top_k=}.")
        if top_p is not None and not (is_number(top_p) and 0 < top_p <= 1):
            raise ValueError(f"`top_p` is a probability above 0 and at most 1. Received: {top_p=}.")
        if isinstance(seed, bool) or not (seed is None or isinstance(seed, int | keras.random.SeedGenerator)):
            raise ValueError(f"`seed` is an integer, a `keras.random.SeedGenerator`, or None. Received: {seed=}.")
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.seed = seed

    def first_seed(self):
        return seed_of_a_call(self.seed)

    def choose(self, logits, time, seed):
        num_tokens = logits.shape[-1]
        count = min(self.top_k or num_tokens, num_tokens)
        nucleus = self.top_p is not None and self.top_p < 1
        if nucleus or count < num_tokens:
            logits, tokens = ops.top_k(logits, count)  # (B, K), likeliest first
            tokens = ops.cast(tokens, "int32")
        else:
            tokens = ops.broadcast_to(ops.arange(num_tokens, dtype="int32"), ops.shape(logits))
        # The likeliest becomes 0 at any temperature, and the others at most overflow to minus infinity.
        best = ops.maximum(ops.max(logits, axis=-1, keepdims=True), IMPOSSIBLE)  # no infinity less itself
        logits = (logits - best) / max(self.temperature, 1e-30)
        if nucleus:
            probs = ops.softmax(logits, axis=-1)
            reached_before = ops.cumsum(probs, axis=-1) - probs
            logits = ops.where(reached_before < self.top_p, logits, -float("inf"))
        place = ops.argmax(logits + self.noise(tokens, time, seed), axis=-1)  # (B,)
        return ops.take_along_axis(tokens, ops.cast(place, "int32")[:, None], axis=1)[:, 0]

    def noise(self, tokens, time, seed):
        """What chance adds to the logits: independent numbers of the standard Gumbel distribution.

        Args:
            tokens: (B, K) int32, the tokens that are left to draw from; noise may be looked up by them.
            time: int or () int32, the step.
            seed: (2,) int, the call's.
        Returns: (B, K) float32.
        """
        # Zero would do as well: its noise is minus infinity, and that token is not drawn.
        tiny = 1e-30
        uniform = keras.random.uniform(ops.shape(tokens), tiny, 1.0, "float32", GivenSeed(seed, time))
        return -ops.log(-ops.log(uniform))

    def get_config(self):
        seed = self.seed.get_config() if isinstance(self.seed, keras.random.SeedGenerator) else self.seed
        return {**super().get_config(), "seed": seed}


class GivenSeed(keras.random.SeedGenerator):
    """Hands Keras's random functions the seed of a step, which on TensorFlow and PyTorch take no tensor as seed."""

    def __init__(self, seed, time):
        self.seed, self.time = seed, time  # no variable: nothing is to be tracked, and a loop may make it

    def next(self, ordered=True):
        """The call's seed with the step added: chance has spread the seeds of calls over 60 bits."""
        first, second = ops.unstack(self.seed)
        return ops.stack([first, second + ops.cast(self.time, second.dtype)])


def seed_of_a_call(seed):
    """Two random integers (2,), each below 2 ** 30: new ones at each call unless `seed` is an int.

    Steps count on from them. Were the counter of a `SeedGenerator` taken as it is, the second step of one call and the
    first step of the next would share their noise.
    """
    if seed is None and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Keras's own generator is a variable of the process, which a saved model would have to hold.
        return tf.random.uniform((2,), 0, 2**30, "int32")
    dtype = "uint32" if keras.backend.backend() == "jax" else "int32"  # what random functions take as their seed
    return ops.cast(keras.random.randint((2,), 0, 2**30, seed=seed), dtype)
