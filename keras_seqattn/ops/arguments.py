"""What is asked of a constructor's arguments, in one wording."""


def is_count(number):
    """Whether `number` is an integer of at least 1; True is not one."""
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1


def check_count(count, name):
    """Raises ValueError unless `count` is an integer of at least 1."""
    if not is_count(count):
        raise ValueError(f"`{name}` must be an integer of at least 1. Received: {name}={count!r}.")


def check_units(units, name="units"):
    """Raises ValueError unless `units`, a width, is an integer of at least 1."""
    if not is_count(units):
        raise ValueError(f"`{name}` is a width and must be an integer of at least 1. Received: {name}={units!r}.")


def check_rate(rate, name):
    """Raises ValueError unless `rate` is a number in [0, 1)."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise ValueError(f"`{name}` is a rate and must be a number in [0, 1). Received: {name}={rate!r}.")
