"""A step run over the rows and steps of a batch."""

import keras
import numpy as np


def over_time(step, inputs, first_states, first_output, mask=None, go_backwards=False):
    """Runs `step(x, states, row) -> output, states, trace` over (B, T, D), every row on its own.

    A masked step changes nothing: the output and the states are those of the step before. Returns the outputs
    (B, T, U) in the order of reading, the last states of all rows, and the trace, zero at masked steps.
    """
    outputs, last_states, traces = [], [], []
    for row, x in enumerate(inputs):
        states = keras.tree.map_structure(lambda state, row=row: state[row], first_states)
        output = first_output[row]
        row_outputs, row_trace = [], []
        order = range(len(x))
        for t in reversed(order) if go_backwards else order:
            new_output, new_states, values = step(x[t], states, row)
            if mask is None or mask[row, t]:
                output, states = new_output, new_states
            else:
                values = {name: np.zeros_like(value) for name, value in values.items()}
            row_outputs.append(output)
            row_trace.append(values)
        outputs.append(np.stack(row_outputs))
        last_states.append(states)
        traces.append({name: np.stack([values[name] for values in row_trace]) for name in row_trace[0]})
    trace = {name: np.stack([values[name] for values in traces]) for name in traces[0]}
    return np.stack(outputs), keras.tree.map_structure(lambda *rows: np.stack(rows), *last_states), trace


def run(step, weights, inputs, num_states=1, first_states=None, mask=None, go_backwards=False):
    """`over_time` for a cell by its weights, from zero states unless they are given; each is as wide as the output."""
    units = len(weights.get("b_y", next(value for name, value in weights.items() if name.startswith("b"))))
    zeros = np.zeros((len(inputs), units))
    states = [zeros] * num_states if first_states is None else first_states
    return over_time(lambda x, states, row: step(weights, x, states), inputs, states, zeros, mask, go_backwards)
