"""Cuts a Python file into parts, each a text and the code that it is about.

A docstring is the text of its function or class, and a comment on lines of its own that of the code below it. All code
that is neither is kept: the parts hold every line of the file once.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOOLS = ("# noqa", "# type:", "# mypy:", "#!", "# ruff:")  # not for people


@dataclass
class Part:
    """A text, the code beside it, and the names that are defined there (``Class.method``).

    ``line`` is the number of the first line of the code; ``title`` a heading that stands above the part.
    """

    line: int
    text: str = ""
    code: str = ""
    title: str = ""
    names: list[str] = field(default_factory=list)
    kind: str = ""  # function, class or empty
    alone: bool = False  # nothing but a comment so far, so a definition right below it may take it


@dataclass(frozen=True)
class Definition:
    """A function or class: its name, its first line, the lines of its docstring (none: empty), the docstring."""

    name: str
    kind: str
    first: int
    doc_lines: range
    doc: str


def parts(source: str) -> list[Part]:
    """Return the parts of a Python file. The first is the file's own docstring."""
    tree = ast.parse(source)
    lines = source.splitlines()
    found = {each.first: each for each in definitions(tree)}
    hidden = {line for each in found.values() for line in each.doc_lines}
    own = _doc_lines(tree)
    result = [Part(1, ast.get_docstring(tree) or "")]
    comments = _comments(source)
    names = constants(tree)
    part = Part(own.stop or 1)
    for number, line in enumerate(lines, 1):
        if number in own or number in hidden:
            continue
        if number in comments:
            if not (part.alone and number - 1 in comments):
                result.append(part)
                part = Part(number, alone=True)
            _add_comment(part, line)
        elif number in found:
            if not (part.alone and number - 1 in comments):
                result.append(part)
                part = Part(number)
            _define(part, found[number], line)
        elif not line.strip() and number - 1 in hidden:
            continue  # the empty line after a docstring
        else:
            part.alone = part.alone and not line.strip() and not part.code
            part.code += line + "\n"
        if number in names:
            part.names += names[number]
    result.append(part)
    return [_trimmed(each) for n, each in enumerate(result) if n == 0 or each.text or each.code.strip() or each.title]


def _add_comment(part: Part, line: str) -> None:
    said = line.strip().removeprefix("#").removeprefix(" ")
    if said.startswith("----"):
        part.title = said.strip("- ")
    else:
        part.text += said + "\n"


def _define(part: Part, definition: Definition, line: str) -> None:
    part.alone = False
    part.text = f"{part.text}\n{definition.doc}".strip("\n")
    part.names.append(definition.name)
    part.kind = definition.kind
    if not part.code.strip():
        part.code, part.line = "", definition.first
    part.code += line + "\n"


def _trimmed(part: Part) -> Part:
    lines = part.code.splitlines()
    while lines and not lines[0].strip():
        lines.pop(0)
        part.line += 1
    part.code = "\n".join(lines).rstrip()
    return part


def definitions(tree: ast.Module) -> Iterator[Definition]:
    """Yield the functions and classes of a module, and the functions of its classes."""
    waiting = [("", node) for node in tree.body]
    while waiting:
        prefix, node = waiting.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = prefix + node.name
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            yield Definition(name, kind, first, _doc_lines(node), ast.get_docstring(node) or "")
            if kind == "class":
                waiting = [(f"{name}.", each) for each in node.body] + waiting


def constants(tree: ast.Module) -> dict[int, list[str]]:
    """Return the names that a module assigns at its top, by the line of the assignment."""
    found: dict[int, list[str]] = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            for each in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(each, ast.Name) and not each.id.startswith("__"):
                    found.setdefault(node.lineno, []).append(each.id)
    return found


def names(source: str) -> set[str]:
    """Return all names of a Python file that a link can lead to."""
    tree = ast.parse(source)
    return {each.name for each in definitions(tree)} | {name for some in constants(tree).values() for name in some}


def _doc_lines(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> range:
    if ast.get_docstring(node) is None:
        return range(0)
    first = node.body[0]
    return range(first.lineno, (first.end_lineno or first.lineno) + 1)


def _comments(source: str) -> set[int]:
    """Return the lines that hold nothing but a comment for people, outside of brackets."""
    found, depth = set(), 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.OP:
            depth += (token.string in "([{") - (token.string in ")]}")
        is_alone = token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip()
        if is_alone and depth == 0 and not token.string.startswith(_TOOLS):
            found.add(token.start[0])
    return found
