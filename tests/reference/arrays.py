"""Axes and arrays of the tests."""

B, T, S, D, V, U = 2, 3, 5, 7, 11, 13  # different primes: a swapped axis cannot pass


def normal(rng, *shape):
    """Standard normal numbers in float32."""
    return rng.normal(size=shape).astype("float32")
