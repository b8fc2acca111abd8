"""Memory for time: what a function computes on the way is computed again for its gradient instead of being kept."""

from contextlib import contextmanager

import keras


def rematerialize(function, inputs, generators=()):
    """`function(*inputs)`, of which only inputs and outputs are kept for the gradient.

    The second time, dropout must drop what it dropped the first: each generator draws its seed once, before, and gives
    that one both times.

    Args:
        function: from tensors to a structure of tensors; draws from each generator once at most.
        inputs: list of tensors, or None.
        generators: the `keras.random.SeedGenerator`s that `function` draws from.
    Returns: what `function` returns.
    """
    seeds = [generator.next() for generator in generators]
    # TensorFlow asks for a gradient of every argument, which ids, masks and seeds do not have: those are closed over.
    places = [place for place, x in enumerate(inputs) if x is not None and keras.backend.is_float_dtype(x.dtype)]

    def again(*floats):
        tensors = list(inputs)
        for place, x in zip(places, floats, strict=True):
            tensors[place] = x
        with giving(generators, seeds):
            return function(*tensors)

    return keras.remat(again)(*(inputs[place] for place in places))


@contextmanager
def giving(generators, seeds):
    """Within, each generator gives the one seed that was drawn for it."""
    for generator, seed in zip(generators, seeds, strict=True):
        generator.next = lambda ordered=True, seed=seed: seed
    try:
        yield
    finally:
        for generator in generators:
            del generator.next  # the class's own comes back


def seed_generators(layer):
    """Every `keras.random.SeedGenerator` of a layer and of the layers within it, each once, in a fixed order."""
    found = []
    for part in layer._flatten_layers():
        for generator in part._seed_generators:
            if not any(generator is one for one in found):
                found.append(generator)
    return found
