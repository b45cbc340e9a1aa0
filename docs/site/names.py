"""Sphinx: the reference of the public names, by autodoc, in the groups of the table in ``docs/api.md``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

import eqnp
from docs.site import repository
from docs.site.prose import Block, Fields, Formula, Items, Paragraph, blocks, pieces

_ROW = re.compile(r"^\| (`\w+`(?:, `\w+`)*) \| (.*) \|$", re.MULTILINE)
OTHERS = {"A classifier for scikit-learn": ["sklearn.EquilibriumClassifier"]}  # public, but not in ``eqnp.__all__``


def groups() -> dict[str, list[str]]:
    """Return the public names below what the table in ``docs/api.md`` says of them.

    Raises:
        ValueError: the table lacks a public name, or has another.
    """
    rows = _ROW.findall(repository.text_of("docs/api.md").partition("\n## ")[0])
    found = {said: re.findall(r"`(\w+)`", some) for some, said in rows}
    listed = {name for some in found.values() for name in some}
    if differing := listed ^ set(eqnp.__all__):
        raise ValueError(f"the first table of docs/api.md and eqnp.__all__ differ in {sorted(differing)}")
    return found


def markdown() -> str:
    """Return the reference as Markdown, with autodoc's directives in it."""
    lines = []
    for said, some in [*groups().items(), *OTHERS.items()]:
        title = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", re.split("[;:]", said)[0])
        lines += [f"## {title[:1].upper()}{title[1:]}", "", "```{eval-rst}"]
        for name in some:
            value = getattr(eqnp, name, None)
            kind = "class" if value is None or isinstance(value, type) else "function"
            lines += [f".. auto{kind}:: eqnp.{name}", *(["   :members:"] if kind == "class" else []), ""]
        lines += ["```", ""]
    return "\n".join(lines)


def restructured(text: Sequence[Block]) -> list[str]:
    """Return blocks of a docstring as lines of reStructuredText, in which only what is meant as markup is markup."""
    lines: list[str] = []
    for block in text:
        match block:
            case Paragraph(said):
                lines += [_inline(said), ""]
            case Formula(said):
                lines += ["::", "", *(f"    {line}" for line in said.splitlines()), ""]
            case Items(items):
                lines += [*(f"- {_inline(each)}" for each in items), ""]
            case Fields("Raises", items):
                found = [
                    (f":py:exc:`eqnp.{name}`" if name in eqnp.__all__ else f"``{name}``", said) for name, said in items
                ]
                lines += ["**Raises**", "", *(f"- {name}: {_inline(said)}" for name, said in found), ""]
            case Fields(title, items):
                lines += [f"**{title}**", "", *(f"- ``{name}``: {_inline(said)}" for name, said in items), ""]
    return lines


def _inline(text: str) -> str:
    result = ""
    for piece in pieces(text, is_mathematics=True):
        if piece.kind == "code":
            target = _place(piece.text)
            result += f":source:name:`{piece.text} <{target}>`" if target else f"``{piece.text}``"
        elif piece.kind == "link":
            result += f"`{piece.text} <{piece.target}>`__"
        elif piece.kind in ("sup", "sub"):
            result += f"\\ :{piece.kind}:`{piece.text}`"
        else:
            result += re.sub(r"([\\*`|_])", r"\\\1", piece.text)
        result += "\\ " if piece.kind != "text" else ""
    return result


def _place(dotted: str) -> str | None:
    """Return path or path#name of what a dotted name means, if a page of code has it."""
    found = repository.place_of(dotted)
    return "#".join(filter(None, found)) if found else None


def process(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Rewrite a docstring for Sphinx, and link to its page of code."""
    lines[:] = restructured(blocks("\n".join(lines)))
    dotted = f"{getattr(obj, '__module__', None)}.{getattr(obj, '__qualname__', '')}"
    if what in ("function", "class") and (target := _place(dotted)):
        lines += [f":source:text:`The code beside its text <{target}>`", ""]


def short(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, back: str | None
) -> Any:
    """Shorten the types of a signature that Sphinx cannot parse, for a default has no source: ``~pathlib.Path``."""
    if signature is None or "<" not in signature:
        return None
    return re.sub(r"~[\w.]+\.(\w+)", r"\1", re.sub(r"<function (\w+)>", r"\1", signature)), back


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, inner: nodes.Element) -> nodes.Node | None:
    """Lead a type in a signature, which is no public name, to its page of code. Without a page it is plain text."""
    if node.get("refdomain") != "py":
        return None
    if target := _place(node["reftarget"]):
        docname, anchor = env.domains["source"].data["places"][target]
        return make_refnode(app.builder, node["refdoc"], docname, anchor, [inner])
    return inner if repository.path_of(node["reftarget"]) else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Extend Sphinx."""
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", short)
    app.connect("missing-reference", resolve)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
