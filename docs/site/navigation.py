"""Sphinx: the navigation, made of the lists of links in the documents, and the parts that the site fills in.

A document names a part that is made by a comment, ``<!-- site: commands -->``, which GitHub does not show.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sphinx.application import Sphinx

from docs.site import names, repository

_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\((?![a-z]+:)([^)\s#]+)[^)]*\)")
_ENTRY = re.compile(r"^- \[([^\]]*)\]\((?![a-z]+:)([^)\s#]+)[^)]*\)", re.MULTILINE)
_PART = re.compile(r"^<!-- site: (\w+) -->$", re.MULTILINE)
PARTS = {"commands": lambda: "```{eqnp-commands}\n```", "names": names.markdown}


def complete(app: Sphinx, docname: str, content: list[str]) -> None:
    """Fill in a document's parts, and put the pages that it lists below it."""
    path = repository.paths().get(docname, "")
    content[0] = _PART.sub(lambda match: PARTS[match[1]](), content[0])
    if path in repository.LISTS:
        content[0] += "\n" + "\n".join(trees(path))


def trees(path: str) -> Iterator[str]:
    """Yield toctrees of the pages that a list links to: one for every section of the home, one for the other lists."""
    text = repository.without_code(repository.text_of(path))
    if path != repository.HOME:
        found = (repository.resolve(path, target) for target in _LINK.findall(text))
        ends = ".py" if path == repository.CODE else ".md"
        below = [each for each in found if each and each.endswith(ends) and not each.startswith("docs/")]
        # The title of a file is its path; in the navigation it is short.
        titles = [each.removeprefix("eqnp/") if ends == ".py" else "" for each in dict.fromkeys(below)]
        yield from _tree("", list(zip(titles, dict.fromkeys(below), strict=True)))
        return
    _, *rest = _HEADING.split(text)
    for title, section in zip(rest[::2], rest[1::2], strict=True):
        found = [(name, repository.resolve(path, target)) for name, target in _ENTRY.findall(section)]
        yield from _tree(title, [(name, each) for name, each in found if each])


def _tree(caption: str, entries: list[tuple[str, str]]) -> Iterator[str]:
    """Yield a toctree of (title, path); without a title the page's own is shown."""
    names = [f"/{repository.pages()[path]}" for _, path in entries]
    lines = [f"{title} <{name}>" if title else name for (title, _), name in zip(entries, names, strict=True)]
    if lines:
        options = [":hidden:", f":caption: {caption}"] if caption else [":hidden:"]
        yield "\n".join(["", "```{toctree}", *options, "", *lines, "```", ""])
