"""Draws words with one slip of the fingers."""

from __future__ import annotations

import random
import string


def typo(word, generator):
    """Return ``word`` with one slip: a letter left out, put in, replaced, or swapped with the next one."""
    place = generator.randrange(len(word))
    letter = generator.choice(string.ascii_lowercase)
    rest = word[place + 1 :]
    return generator.choice(
        [word[:place] + rest, word[:place] + letter + word[place:], word[:place] + letter + rest]
        + ([word[:place] + rest[0] + word[place] + rest[1:]] if rest else [])
    )


def typos(words, count=100):
    """Yield (word, its typo), the typo being none of the words."""
    generator = random.Random(0)
    while count:
        word = generator.choice(words)
        wrong = typo(word, generator)
        if wrong not in words and wrong:
            yield word, wrong
            count -= 1
