"""Words in messages: which known word a typo stands for, and how a given value is shown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from eqnp.shown import shown

MOST = 3  # words that a message suggests
LONGEST = 100  # characters of a word that may be a typo


def slips(a: str, b: str) -> int:
    """Return how many typos lead from ``a`` to ``b``: letters left out, added, replaced or swapped with the next."""
    rows = [list(range(len(b) + 1))]
    for i, x in enumerate(a, start=1):
        row = [i]
        for j, y in enumerate(b, start=1):
            best = min(row[j - 1] + 1, rows[-1][j] + 1, rows[-1][j - 1] + (x != y))
            if i > 1 and j > 1 and (x, a[i - 2]) == (b[j - 2], y):
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]


def near_words(word: str, known: Iterable[str]) -> list[str]:
    """Return the known words that ``word`` may stand for, the likeliest first; empty if none is similar."""
    if len(word) > LONGEST:
        return []
    words, allowed = list(dict.fromkeys(known)), max(1, min(len(word) // 3, 3))
    lengths = [each for each in words if abs(len(each) - len(word)) <= allowed]
    distance = {each: slips(word.lower(), each.lower()) for each in lengths}
    least = min(distance.values(), default=allowed + 1)
    if least <= allowed:
        return [each for each in lengths if distance[each] == least][:MOST]
    return difflib.get_close_matches(word, words, 1)


def did_you_mean(words: Iterable[str]) -> str:
    """Return ``did you mean A?``, ``A or B?`` or ``A, B or C?``; "" for no words."""
    *most, last = [*words] or [""]
    return f"did you mean {', '.join(most)}{' or ' if most else ''}{last}?" if last else ""


def hint(words: Iterable[str]) -> str:
    """Return `` (did you mean 'A' or 'B'?)`` as the end of a message, or ""."""
    question = did_you_mean(map(repr, words))
    return f" ({question})" if question else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean ...?)`` with the known words nearest to ``word``, or ""."""
    return hint(near_words(word, known))


def show(given: Any) -> str:
    """Return a value in the form that messages show."""
    try:
        return shorten(" ".join(repr(given).split()))
    except (ValueError, RecursionError):  # thousands of digits, or of levels
        return "something too large to show"


def shorten(text: str, most: int = 60) -> str:
    """Return about ``most`` characters of a text, safe on a terminal; all of them can be encoded as UTF-8."""
    text = text if len(text) <= most else text[: most - 3] + "..."
    return shown(text, 10 * most).encode("utf-8", "backslashreplace").decode()
