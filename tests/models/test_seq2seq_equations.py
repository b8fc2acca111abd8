"""The whole model against plain loops over one sentence, written from the papers."""

from functools import partial

import numpy as np

from tests.layers import paper_weights
from tests.layers.paper_weights import arrays, numpy
from tests.models.small import EVERY_SETTING, B, S, known_model, logits, sources, targets
from tests.reference import attention, attention_in_turn, cells
from tests.reference.attention_cell import attention_step

CELL_STEPS = {"elman": cells.elman_step, "gru": cells.gru_reset_after_step, "lstm": cells.lstm_step}


def cell_step(model, cell):
    """(x, states) -> output, states, trace of one cell of the model."""
    return partial(CELL_STEPS[model.cell], getattr(paper_weights, model.cell)(arrays(cell)))


def dense(layer, x):
    weights = [numpy(weight).astype("float64") for weight in layer.weights]
    return x @ weights[0] + (weights[1] if len(weights) > 1 else 0)


def encode(model, source):
    """Memory (S, V) and the decoder's first states, of one sentence without padding."""
    steps, first_states = numpy(model.encoder.embedding.embeddings)[source].astype("float64"), []
    bridges, num_states = iter(model.encoder.bridges), 2 if model.cell == "lstm" else 1
    for layer in model.encoder.layers:
        outputs, lasts = [], []
        for recurrent, order in ((layer.layer, 1), (layer.backward_layer, -1)):
            step, states, read = cell_step(model, recurrent.cell), [np.zeros(model.units)] * num_states, []
            for x in steps[::order]:
                output, states, _ = step(x, states)
                read.append(output)
            outputs.append(read[::order])
            lasts.append(states)
        steps = np.concatenate(outputs, axis=-1)
        first_states.append([np.tanh(dense(next(bridges), np.concatenate(both))) for both in zip(*lasts, strict=True)])
    memory = steps if model.encoder.memory_projection is None else dense(model.encoder.memory_projection, steps)
    return memory, first_states


def steps_of(model):
    """The reference step of an attention that chooses where to read or remembers it, and its weights' names."""
    general, normalized = attention.general_logit, attention.normalized_bahdanau_logit
    return {
        "location": (attention_in_turn.location_step, paper_weights.luong),
        "local-m": (attention_in_turn.local_step(general, model.window, predictive=False), paper_weights.local),
        "local-p": (attention_in_turn.local_step(general, model.window, predictive=True), paper_weights.local),
        "monotonic": (attention_in_turn.chosen_monotonic_step(normalized), paper_weights.monotonic),
        "location_sensitive": (
            attention_in_turn.location_sensitive_step(cumulative=False),
            paper_weights.location_sensitive,
        ),
    }


def reader(model, memory):
    """query -> context, scores: called once a step."""
    weights, steps = arrays(model.decoder_cell.attention), steps_of(model)
    if model.attention not in steps:
        weights = paper_weights.scorer(weights)
        logit = getattr(attention, f"{model.attention}_logit")
        return lambda query: attention.read(logit, weights, query, memory)
    step, from_layer = steps[model.attention]
    first = {"monotonic": attention_in_turn.first_read, "location_sensitive": np.zeros}
    state, weights = [first.get(model.attention, lambda steps: 0)(len(memory))], from_layer(weights)

    def read(query):
        context, scores, state[0] = step(weights, query, memory, state[0], np.ones(len(memory), bool))
        return context, scores

    return read


def decode(model, source, target):
    """Logits (T, C) and scores (T, S) of one sentence."""
    memory, first_states = encode(model, source)
    read = reader(model, memory)
    inner = model.decoder_cell.cell
    if model.num_layers == 1:
        step, states, hidden = cell_step(model, inner), [first_states[0]], lambda states: states[0]
    else:
        step = partial(cells.stacked_step, [cell_step(model, cell) for cell in inner.cells])
        states, hidden = [first_states], lambda states: states[-1][0]
    if model.input_feeding:
        states.append(np.zeros(model.units))
    W_c = numpy(model.decoder_cell.vector_kernel).T.astype("float64")

    found, scores = [], []
    for token in target:
        x = numpy(model.target_embedding.embeddings)[token].astype("float64")
        vector, states, trace = attention_step(
            step,
            read,
            x,
            states,
            model.attend,
            model.input_feeding,
            W_c,
            hidden,
        )
        found.append(dense(model.output_projection, vector))
        scores.append(trace["attention_scores"])
    return np.array(found), np.array(scores)


@EVERY_SETTING
def test_logits_and_alignment_are_those_of_the_papers(rng, settings):
    model, source, target = known_model(**settings), sources(rng), targets(rng)
    found, scores = logits(model, source, target), numpy(model.align(source, target))
    for row in range(B):
        words = source[row][source[row] != 0]
        expected, expected_scores = decode(model, words, target[row])
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(scores[row, :, : len(words)], expected_scores, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(scores[row, :, len(words) : S], 0)
