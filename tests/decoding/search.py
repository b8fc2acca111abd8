"""Searches in plain Python, one sentence at a time and without early stopping: what the decoders are compared with.

Each takes `log_probs(prefix)`, the log-probabilities (V,) of the next token after a tuple of tokens, and gives answers
as `Answer`, whose tokens include the end token. A log-probability of minus infinity is a token that may not be taken.
`bonus(tokens)` is what a rank has beside the log-probability over the length penalty.
"""

import math
from typing import NamedTuple


class Answer(NamedTuple):
    """A partial or whole answer: its tokens, the logarithm of its probability, and whether it has ended."""

    tokens: tuple
    log_prob: float
    ended: bool

    def score(self, length_penalty):
        """Wu et al. 2016, eq. (14): log P(Y) / lp(Y), lp(Y) = (5 + |Y|)^alpha / (5 + 1)^alpha."""
        return self.log_prob / ((5 + len(self.tokens)) ** length_penalty / 6**length_penalty)


def extended(answer, log_probs, end_id):
    """Every answer that is one token longer; an ended one alone, as it is."""
    if answer.ended:
        return [answer]
    return [
        Answer((*answer.tokens, token), answer.log_prob + gain, token == end_id)
        for token, gain in enumerate(log_probs(answer.tokens))
        if gain > -math.inf
    ]


def no_bonus(tokens):
    return 0.0


def greedy_search(log_probs, max_length, end_id):
    """The likeliest next token at every step."""
    answer = Answer((), 0.0, False)
    for _ in range(max_length):
        answer = max(extended(answer, log_probs, end_id), key=lambda longer: longer.log_prob)
    return answer


def beam_search(log_probs, max_length, end_id, width, length_penalty, bonus=no_bonus):
    """At every step the `width` best among all continuations, to the last step; best first."""
    beams = [Answer((), 0.0, False)]
    for _ in range(max_length):
        beams = [longer for answer in beams for longer in extended(answer, log_probs, end_id)]
        beams = sorted(beams, key=lambda answer: -answer.score(length_penalty) - bonus(answer.tokens))[:width]
    return beams


def every_answer(log_probs, max_length, end_id, length_penalty, bonus=no_bonus):
    """All that can be said in `max_length` steps, best first."""
    answers = [Answer((), 0.0, False)]
    for _ in range(max_length):
        answers = [longer for answer in answers for longer in extended(answer, log_probs, end_id)]
    return sorted(answers, key=lambda answer: -answer.score(length_penalty) - bonus(answer.tokens))
