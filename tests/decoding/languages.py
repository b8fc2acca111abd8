"""Tiny languages: a random table with the log-probabilities of the next token after every prefix there is."""

import numpy as np
from keras import ops

from tests.decoding.search import Answer


class Language:
    """A random language for each row of a batch, as a step function and as plain tables.

    A prefix is a node of the tree of all prefixes: node 0 is the empty one, and token v of V leads from node n to node
    n * V + 1 + v.

    Args:
        rng: NumPy generator.
        rows, num_tokens, max_length, num_sources: int B, V, T, S.
        end_id: int. sharpness: float, standard deviation of the logits.
    """

    def __init__(self, rng, rows, num_tokens, max_length, num_sources=2, end_id=1, sharpness=1.5):
        self.rows, self.num_tokens, self.max_length, self.end_id = rows, num_tokens, max_length, end_id
        self.num_nodes = sum(num_tokens**t for t in range(max_length))
        self.logits = (sharpness * rng.normal(size=(rows, self.num_nodes, num_tokens))).astype("float32")
        self.attention = rng.uniform(size=(rows, self.num_nodes, num_sources)).astype("float32")
        self.start_ids = np.full((rows,), num_tokens + 1, "int32")  # a token that no answer holds

    def row(self, index):
        """`log_probs(prefix)` of one row, in float64, for the plain searches."""
        logits = self.logits[index].astype("float64")
        table = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
        return lambda prefix: table[self.node(prefix)]

    def node(self, prefix):
        node = 0
        for token in prefix:
            node = node * self.num_tokens + 1 + token
        return node

    def log_prob(self, row, tokens):
        """Of the tokens, one after the other."""
        log_probs = self.row(row)
        return sum(log_probs(tuple(tokens[:t]))[token] for t, token in enumerate(tokens))

    def attention_along(self, row, num_steps, tokens):
        """(T, S): what each of the first `num_steps` steps of this answer reads, and zeros."""
        read = np.zeros((self.max_length, self.attention.shape[-1]), "float32")
        for t in range(num_steps):
            read[t] = self.attention[row, self.node(tokens[:t])]
        return read

    def state(self):
        """What the first step gets: which row it is, and the node before the first token."""
        zeros = np.zeros((self.rows,), "int32")
        return {"row": ops.arange(self.rows, dtype="int32"), "node": ops.convert_to_tensor(zeros)}

    def step(self, ids, state, time):
        node, row = state["node"], state["row"]
        node = ops.where(ops.equal(ids, self.num_tokens + 1), node, node * self.num_tokens + 1 + ids)
        node = ops.minimum(node, self.num_nodes - 1)  # an ended answer goes on beyond the table, unread
        place = row * self.num_nodes + node
        return (
            ops.take(ops.reshape(self.logits, (-1, self.num_tokens)), place, axis=0),
            {"row": row, "node": node},
            ops.take(ops.reshape(self.attention, (self.rows * self.num_nodes, -1)), place, axis=0),
        )

    def decode(self, decoder, max_length=None, **prompt):
        """What the decoder finds, as NumPy arrays."""
        max_length = max_length or self.max_length
        return arrays(decoder(self.step, self.state(), self.start_ids, max_length, self.end_id, **prompt))


def arrays(decoded):
    """`Decoded` with NumPy arrays."""
    return type(decoded)(*(None if x is None else ops.convert_to_numpy(x) for x in decoded))


def assert_answer(found, place, answer, length_penalty=0.0, bonus=0.0):
    """The answer at `place` of `Decoded` is this one: its ids and padding, its length and its score."""
    tokens = answer.tokens[:-1] if answer.ended else answer.tokens
    assert found.ids[place].tolist() == [*tokens, *[0] * (found.ids.shape[-1] - len(tokens))]
    assert found.lengths[place] == len(tokens)
    np.testing.assert_allclose(found.scores[place], answer.score(length_penalty) + bonus, rtol=1e-5, atol=1e-6)


def answer_at(found, place, log_prob, end_id):
    """The answer at `place` of `Decoded`, with `log_prob(tokens)` recomputed from its ids."""
    ids, length = found.ids[place], int(found.lengths[place])
    ended = length < len(ids)
    tokens = (*ids[:length].tolist(), *[end_id] * ended)
    return Answer(tokens, log_prob(tokens), ended)
