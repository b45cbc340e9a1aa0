"""Docstrings and comments as blocks of text: paragraphs, formulas, lists and what is raised.

They are written to be read in an editor: plain text, formulas in indented blocks, code in ``double backticks``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from inspect import cleandoc

_ITEM = re.compile(r"(- |\* |\d+\. )")
_FIELDS = ("Raises:", "Args:", "Returns:", "Yields:")


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Formula:
    """Lines that keep their shape."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Fields:
    """What is raised, for example: pairs of a name and what is said of it."""

    title: str
    items: tuple[tuple[str, str], ...]


Block = Paragraph | Formula | Items | Fields


def blocks(text: str) -> list[Block]:
    """Return the blocks of a docstring or of the text of a comment."""
    result: list[Block] = []
    lines = cleandoc(text).splitlines()
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        end = at + 1
        if lines[at] in _FIELDS:
            end = _while(lines, end, lambda line: not line.strip() or line.startswith(" "))
            result.append(Fields(lines[at].removesuffix(":"), _pairs(lines[at + 1 : end])))
        elif lines[at].startswith("    "):
            end = _while(lines, end, lambda line: not line.strip() or line.startswith("    "))
            result.append(Formula(cleandoc("\n" + "\n".join(lines[at:end]))))
        elif _ITEM.match(lines[at]):
            end = _while(lines, end, lambda line: bool(_ITEM.match(line)) or line.startswith(" "))
            result.append(Items(_items(lines[at:end])))
        else:
            end = _while(lines, end, lambda line: bool(line.strip()) and not line.startswith("    "))
            result.append(Paragraph(" ".join(line.strip() for line in lines[at:end])))
        at = end
    return result


def _while(lines: list[str], at: int, holds) -> int:  # noqa: ANN001
    while at < len(lines) and holds(lines[at]):
        at += 1
    return at


def _items(lines: list[str]) -> tuple[str, ...]:
    found: list[str] = []
    for line in lines:
        if mark := _ITEM.match(line):
            found.append(line[mark.end() :].strip())
        else:
            found[-1] += " " + line.strip()
    return tuple(found)


def _pairs(lines: list[str]) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for line in cleandoc("\n" + "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        if line.startswith(" ") and found:
            found[-1] = found[-1][0], f"{found[-1][1]} {line.strip()}".strip()
        else:
            name, _, said = line.partition(":")
            found.append((name.strip(), said.strip()))
    return tuple(found)


@dataclass(frozen=True)
class Piece:
    """A part of running text: ``kind`` is text, code, strong, sup, sub or link (then ``target`` is its address)."""

    kind: str
    text: str
    target: str = ""


_PIECE = re.compile(
    r"``(?P<code>[^`]+)``|`(?P<single>[^`]+)`|(?P<arxiv>arXiv:(?P<number>\d{4}\.\d{4,5}))"
    r"|(?P<doi>doi:(?P<name>10\.\S+?))(?=[\s,;:)]|\.?$)|(?P<url>https?://[^\s)>]+[^\s)>.,;:])"
)
# s^{n+1}, w_out, dPhi_beta, |s|^2: an index or a power of a letter, of a Greek one, or of a bracket.
_SCRIPT = re.compile(
    r"(?:(?<![A-Za-z0-9_])d?(?:Phi|theta|beta|lambda|sigma|[A-Za-z])~?|[|)\]])"
    r"(?P<all>(?:[\^_](?:\{[^{}]*\}|\*|-?[A-Za-z0-9]+))+)"
)
_ONE = re.compile(r"([\^_])(?:\{([^{}]*)\}|(\*|-?[A-Za-z0-9]+))")
_NAMES = re.compile(r"[\^_](train|test|[a-z]{5,})\b")  # names of arrays, x_train
_LEAD = re.compile(r"[A-Z]{3}[A-Z ]*\.(?= )")


def pieces(text: str, *, is_mathematics: bool = False) -> list[Piece]:
    """Return the parts of running text. A first phrase in capitals is strong.

    In mathematics, what stands after ^ and _ is an exponent or an index, and -> and <- are arrows.
    """
    result: list[Piece] = []
    at = 0
    if lead := _LEAD.match(text):
        result.append(Piece("strong", lead[0]))
        at = lead.end()
    for match in _PIECE.finditer(text, at):
        result += _plain(text[at : match.start()], is_mathematics)
        if code := match["code"] or match["single"]:
            result.append(Piece("code", code))
        elif match["arxiv"]:
            result.append(Piece("link", match["arxiv"], f"https://arxiv.org/abs/{match['number']}"))
        elif match["doi"]:
            result.append(Piece("link", match["doi"], f"https://doi.org/{match['name']}"))
        else:
            result.append(Piece("link", match["url"], match["url"]))
        at = match.end()
    return result + _plain(text[at:], is_mathematics)


def _plain(text: str, is_mathematics: bool) -> list[Piece]:
    result, at = [], 0
    if is_mathematics:
        text = text.replace("->", "\N{RIGHTWARDS ARROW}").replace("<-", "\N{LEFTWARDS ARROW}")
    for match in _SCRIPT.finditer(text) if is_mathematics else ():
        if _NAMES.search(match["all"]):
            continue
        result.append(Piece("text", text[at : match.start("all")]))
        for mark, braced, bare in _ONE.findall(match["all"]):
            result.append(Piece("sup" if mark == "^" else "sub", braced or bare))
        at = match.end()
    return result + ([Piece("text", text[at:])] if text[at:] else [])
