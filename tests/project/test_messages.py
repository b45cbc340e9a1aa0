"""The messages that docs/troubleshooting.md quotes are those of the source."""

from __future__ import annotations

import ast
import re

from places import ROOT

QUOTED = re.findall(
    r"^```text\n(.*?)^```", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE | re.DOTALL
)
SHORTEST = 8  # letters of a part between two "..." that is looked for


def pieces():
    """Return all strings of the source, those of f-strings in their parts, in one text."""
    found = []
    for room in ("eqnp", "data", "cli"):
        for path in (ROOT / room).rglob("*.py"):
            nodes = ast.walk(ast.parse(path.read_text()))
            found += [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return "\n".join(found)


def is_said(clause, source):
    """Return whether the source has a clause, or two strings that make it."""
    words = clause.split(" ")
    halves = ((" ".join(words[:k]), " ".join(words[k:])) for k in range(1, len(words)))
    return clause in source or any(first in source and second in source for first, second in halves)


def test_quoted_messages_are_in_the_source():
    source, count = pieces(), 0
    for block in QUOTED:
        text = re.sub(r"^(eqnp|verdict|warning): *|^verdict +none: ", "", " ".join(block.split()))
        text = re.sub(r"--set [\w.]+=", "...", text)  # the key is chosen where the message is made
        for clause in re.split(r"\.\.\.|[;:,(] |`", text):
            clause = clause.strip(" ;:,()`")
            if len(clause) >= SHORTEST:
                assert is_said(clause, source), clause
                count += 1
    assert count > 25
