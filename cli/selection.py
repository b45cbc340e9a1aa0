"""Selections of samples or steps: ``3,5``, ``0:10``, ``0:100:10``, or several separated by commas."""

from __future__ import annotations

from eqnp.errors import ConfigurationError


def parse_selection(option: str, text: str, count: int) -> list[int]:
    """Return the numbers in ``text``, each from 0 to ``count`` - 1, in the order given and without repeats.

    Raises:
        ConfigurationError: not of the form A, A:B or A:B:STEP, out of range, or empty.
    """
    chosen: dict[int, None] = {}
    for part in text.split(","):
        try:
            numbers = [int(n) for n in part.split(":")]
            if len(numbers) > 3 or (len(numbers) == 3 and numbers[2] < 1):
                raise ValueError
        except ValueError:
            raise ConfigurationError(f"{option} {text}: {part!r} is not of the form 3 or 0:10 or 0:100:10") from None
        run = range(*numbers) if len(numbers) > 1 else range(numbers[0], numbers[0] + 1)
        for end in (run[:1], run[-1:]):
            if any(not 0 <= n < count for n in end):
                raise ConfigurationError(f"{option} {text}: {end[0]} is outside 0 to {count - 1}")
        chosen |= dict.fromkeys(run)
    if not chosen:
        raise ConfigurationError(f"{option} {text}: selects nothing")
    return list(chosen)
