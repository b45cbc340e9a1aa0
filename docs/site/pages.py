"""Sphinx: links from documents to source, the pages of source with text and code side by side, and the links back.

A link to ``../eqnp/dynamics.py#relax`` leads to the page of that file at that function, and the page lists the sections
that link to it. A link to a function that is gone is a warning, and with it the strict build fails.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any, ClassVar

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.builders import Builder
from sphinx.domains import Domain
from sphinx.environment import BuildEnvironment
from sphinx.roles import XRefRole
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

import eqnp
from docs.site import repository
from docs.site.prose import Block, Fields, Formula, Items, Paragraph, blocks, pieces
from docs.site.sources import Part, names, parts

# Inside of these no name becomes a link: they are links or headings, or autodoc made them.
_NO_LINKS = (nodes.reference, nodes.title, addnodes.pending_xref, addnodes.desc)
_DOTTED = re.compile(r"eqnp(\.\w+)+")
_LANGUAGES = {".py": "python", ".pyi": "python", ".cu": "cuda", ".toml": "toml", ".yml": "yaml", ".cff": "yaml"}


class SourceDomain(Domain):
    """Files of source and the names in them, and from where the documents link to them."""

    name = "source"
    label = "Source"
    roles: ClassVar = {
        "name": XRefRole(warn_dangling=True),
        "text": XRefRole(warn_dangling=True, innernodeclass=nodes.inline),
    }
    initial_data: ClassVar = {"places": {}, "uses": {}}
    data_version = 1

    def note_place(self, target: str, anchor: str) -> None:
        """Note where on the page under way ``target`` is: a path, or path#name."""
        self.data["places"][target] = self.env.docname, anchor

    def note_use(self, target: str, section: nodes.section | None) -> None:
        """Note that a section of the page under way links to ``target``."""
        is_top = section is None or not isinstance(section.parent, nodes.section)
        place = ("", "") if is_top or section is None else (section["ids"][-1], section[0].astext())
        uses = self.data["uses"].setdefault(target, [])
        if (self.env.docname, *place) not in uses:
            uses.append((self.env.docname, *place))

    def clear_doc(self, docname: str) -> None:
        """Forget a page."""
        places, uses = self.data["places"], self.data["uses"]
        self.data["places"] = {target: place for target, place in places.items() if place[0] != docname}
        self.data["uses"] = {target: [use for use in some if use[0] != docname] for target, some in uses.items()}

    def merge_domaindata(self, docnames: set[str], otherdata: dict[str, Any]) -> None:
        """Take over what another process read."""
        self.data["places"] |= {t: place for t, place in otherdata["places"].items() if place[0] in docnames}
        for target, some in otherdata["uses"].items():
            self.data["uses"].setdefault(target, []).extend(use for use in some if use[0] in docnames)

    def resolve_xref(
        self,
        env: BuildEnvironment,
        fromdocname: str,
        builder: Builder,
        typ: str,
        target: str,
        node: addnodes.pending_xref,
        contnode: nodes.Element,
    ) -> nodes.reference | None:
        """Return the link to ``target``, None if there is no such place."""
        if target not in self.data["places"]:
            return None
        docname, anchor = self.data["places"][target]
        return make_refnode(builder, fromdocname, docname, anchor, [contnode])

    def resolve_any_xref(self, *args: object, **options: object) -> list[tuple[str, nodes.reference]]:
        """Return nothing: a link to source says that it is one."""
        return []


class Back(nodes.General, nodes.Element):
    """Stands for the list of sections that link to ``target``."""


class SourceFile(SphinxDirective):
    """The page of a file: ``.. source-file:: eqnp/dynamics.py``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the content of the page."""
        path = self.arguments[0]
        domain: SourceDomain = self.env.domains["source"]  # type: ignore[assignment]
        domain.note_place(path, "")
        self.env.note_dependency(str(repository.ROOT / path))
        text = (repository.ROOT / path).read_text(encoding="utf-8")
        if path.endswith(".py"):
            return list(PythonPage(path, text, domain).content())
        language = next((name for end, name in _LANGUAGES.items() if path.endswith(end)), "text")
        return [Back(target=path), _code(text, language)]


class PythonPage:
    """Makes the content of the page of a Python file."""

    def __init__(self, path: str, text: str, domain: SourceDomain) -> None:
        self.path, self.domain = path, domain
        self.parts = parts(text)
        self.names = names(text)
        self.imported = _imported(text)

    def content(self) -> Iterator[nodes.Node]:
        """Yield the file's own text, a list of its names, and a row for every part."""
        first, *others = self.parts
        yield nodes.container("", *self.prose(first.text), Back(target=self.path), classes=["beside-head"])
        seen: set[str] = set()
        rows = [row for part in others for row in self.rows(part, seen)]
        if listed := [part.names[0] for part in others if part.kind and "._" not in f".{part.names[0]}"]:
            refs = [nodes.reference("", "", nodes.literal(name, name), refid=name, internal=True) for name in listed]
            spaced = [each for ref in refs for each in (nodes.Text(" "), ref)]
            yield nodes.paragraph("", "In this file:", *spaced, classes=["beside-names"])
        yield from rows

    def rows(self, part: Part, seen: set[str]) -> Iterator[nodes.Node]:
        """Yield a part: its heading, and a row of its text and its code."""
        if part.title:
            yield _heading(part.title[:1].upper() + part.title[1:], 2, "beside-title")
        own = [name for name in part.names if name not in seen]
        seen.update(own)
        for name in own:
            self.domain.note_place(f"{self.path}#{name}", name)
        text = nodes.container("", *(nodes.inline("", "", ids=[name]) for name in own[1:]), classes=["beside-text"])
        if part.kind and own:
            heading = _heading("", 3, "beside-name")
            heading += nodes.reference("", "", nodes.literal(own[0], own[0]), refid=own[0], internal=True)
            text += heading
        text += self.prose(part.text)
        text += [Back(target=f"{self.path}#{name}") for name in own]
        goes_on = [] if own or not part.code.startswith(" ") else ["beside-more"]  # inside a function
        row = nodes.container("", text, classes=["beside", *goes_on], ids=own[:1])
        if part.code:
            row += nodes.container("", _code(part.code, "python"), classes=["beside-code"])
        yield row

    def prose(self, text: str) -> list[nodes.Node]:
        """Return the nodes of a docstring or of a comment's text."""
        return [self.block(each) for each in blocks(text)]

    def block(self, block: Block) -> nodes.Node:
        """Return the node of a block."""
        match block:
            case Paragraph(text):
                return nodes.paragraph("", "", *self.inline(text))
            case Formula(text):
                return nodes.literal_block(text, text, language="none", classes=["beside-formula"])
            case Items(items):
                entries = [nodes.list_item("", nodes.paragraph("", "", *self.inline(each))) for each in items]
                return nodes.bullet_list("", *entries)
            case Fields(title, items):
                entries = [
                    nodes.list_item(
                        "", nodes.paragraph("", "", nodes.literal(name, name), nodes.Text(": "), *self.inline(said))
                    )
                    for name, said in items
                ]
                head = nodes.paragraph("", "", nodes.strong(title, title))
                return nodes.container("", head, nodes.bullet_list("", *entries), classes=["beside-fields"])

    def inline(self, text: str) -> list[nodes.Node]:
        """Return the nodes of running text."""
        result: list[nodes.Node] = []
        kinds = {"strong": nodes.strong, "sup": nodes.superscript, "sub": nodes.subscript}
        for piece in pieces(text, is_mathematics=True):
            if piece.kind == "code":
                result.append(self.name(piece.text))
            elif piece.kind == "link":
                result.append(nodes.reference("", piece.text, refuri=piece.target))
            elif piece.kind in kinds:
                result.append(kinds[piece.kind](piece.text, piece.text))
            else:
                result.append(nodes.Text(piece.text))
        return result

    def name(self, text: str) -> nodes.Node:
        """Return code in running text, with a link if it is the name of something that has a place."""
        literal = nodes.literal(text, text)
        target = self.target(text)
        if target is None:
            return literal
        ref = addnodes.pending_xref(
            "", literal, refdomain="source", reftype="name", reftarget=target, refdoc=self.domain.env.docname
        )
        ref["refwarn"] = True
        return ref

    def target(self, text: str) -> str | None:
        """Return what a name in a docstring of this file means: a path, path#name, or None if no page has it."""
        if text in self.names:
            return f"{self.path}#{text}"
        first, _, rest = text.partition(".")
        dotted = text if first == "eqnp" else ".".join(filter(None, [self.imported.get(first), rest]))
        found = repository.path_of(dotted) if dotted.startswith("eqnp.") else None
        if found is None or found[0] not in repository.pages():
            return None
        path, name = found
        if name and first != "eqnp" and name not in names((repository.ROOT / path).read_text(encoding="utf-8")):
            return None  # an attribute
        return f"{path}#{name}" if name else path


def _imported(text: str) -> dict[str, str]:
    """Return the dotted names of what a file imports from eqnp, by the names that it has there."""
    found = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eqnp"):
            found |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    return found


def _heading(text: str, level: int, kind: str) -> nodes.rubric:
    heading = nodes.rubric(text, text, classes=[kind])
    heading["heading-level"] = level
    return heading


def _code(text: str, language: str) -> nodes.literal_block:
    return nodes.literal_block(text, text, language=language, force=True)


class Folder(SphinxDirective):
    """The page of a folder: a list of what is in it."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the list."""
        folder = self.arguments[0]
        domain: SourceDomain = self.env.domains["source"]  # type: ignore[assignment]
        domain.note_place(folder, "")
        items = nodes.bullet_list()
        for entry in repository.entries(folder):
            path = f"{folder}/{entry}".rstrip("/")
            content: nodes.Node = nodes.literal(entry, entry)
            if path in repository.pages():
                content = link_to(path, "", self.env.docname, content)
            items += nodes.list_item("", nodes.paragraph("", "", content))
        return [items]


def link_to(path: str, fragment: str, docname: str, *content: nodes.Node) -> addnodes.pending_xref:
    """Return a link from the page ``docname`` to the page of a path."""
    if path.endswith(repository.PAGES):
        inner = nodes.inline("", "", *content, classes=["xref", "myst"])
        return addnodes.pending_xref(
            "",
            inner,
            refdomain="doc",
            reftype="myst",
            reftarget=repository.pages()[path],
            reftargetid=fragment or None,
            refdoc=docname,
            refexplicit=True,
        )
    target = f"{path}#{fragment}" if fragment else path
    inner = nodes.inline("", "", *content)
    return addnodes.pending_xref(
        "", inner, refdomain="source", reftype="name", reftarget=target, refdoc=docname, refexplicit=True, refwarn=True
    )


def read_links(app: Sphinx, doctree: nodes.document) -> None:
    """Turn the links and images of a document, relative to its place in the repository, into those of the site."""
    docname = app.env.docname
    path = repository.paths().get(docname, "")
    if not path.endswith(repository.PAGES):
        return
    if not path.startswith("docs/"):  # a page of docs/ must be in a list
        app.env.metadata[docname]["orphan"] = "true"
    domain: SourceDomain = app.env.domains["source"]  # type: ignore[assignment]
    for image in doctree.findall(nodes.image):
        if (found := repository.resolve(path, image["uri"])) is not None:
            image["uri"] = f"/{repository.ASSETS}/{found}"
    link_names(doctree, domain)
    if path.endswith(".ipynb"):
        for cell in doctree.findall(nodes.literal_block):
            if cell.get("language") == "python":
                cell["language"] = "ipython3"  # which knows `!eqnp train`
    for node in list(doctree.findall(addnodes.pending_xref)):
        if node.get("reftype") != "myst" or node.get("refdomain") == "doc":
            continue
        target, _, fragment = node["reftarget"].partition("#")
        found = repository.resolve(path, target) if target else None
        if found is None or (inner := node[0] if node.children else None) is None:
            continue  # MyST warns of it
        if found in repository.pages():
            node.replace_self(link_to(found, fragment, docname, *inner.children))
            if not found.endswith(repository.PAGES):
                domain.note_use(f"{found}#{fragment}" if fragment else found, _section(node))
        else:
            asset = f"/{repository.ASSETS}/{found}"
            node.replace_self(addnodes.download_reference("", "", *inner.children, reftarget=asset, refdoc=docname))


def link_names(doctree: nodes.document, domain: SourceDomain) -> None:
    """Link the dotted names in a document's inline code, such as ``eqnp.step.vector_field``, to what they name."""
    for literal in list(doctree.findall(nodes.literal)):
        text = literal.astext()
        if not _DOTTED.fullmatch(text) or any(isinstance(above, _NO_LINKS) for above in _above(literal)):
            continue
        found, docname = repository.place_of(text), domain.env.docname
        if text.count(".") == 1 and text.partition(".")[2] in eqnp.__all__:
            ref = addnodes.pending_xref("", literal.deepcopy(), refdomain="py", reftype="obj", reftarget=text)
            ref["refdoc"] = docname
        elif found:
            ref = link_to(*found, docname, literal.deepcopy())
            domain.note_use("#".join(filter(None, found)), _section(literal))
        else:
            continue
        literal.replace_self(ref)


def _above(node: nodes.Node) -> Iterator[nodes.Node]:
    while (node := node.parent) is not None:
        yield node


def _section(node: nodes.Node) -> nodes.section | None:
    return next((above for above in _above(node) if isinstance(above, nodes.section)), None)


def write_backs(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace every ``Back`` by links to the sections that link to its target."""
    uses = app.env.domains["source"].data["uses"]
    for node in list(doctree.findall(Back)):
        is_file = "#" not in node["target"]
        links: list[nodes.Node] = []
        for page, anchor, title in uses.get(node["target"], []):
            path = repository.paths()[page]
            if path == "CHANGELOG.md" or (is_file and path in (*repository.LISTS, "README.md")):
                continue  # they list, and explain nothing
            uri = app.builder.get_relative_uri(docname, page) + (f"#{anchor}" if anchor else "")
            name = app.env.titles[page].astext() + (f": {title}" if title else "")
            links += [nodes.Text(", " if links else "Explained in: "), nodes.reference("", name, refuri=uri)]
        node.replace_self(nodes.paragraph("", "", *links, classes=["beside-back"]) if links else [])


def rewrite_backs(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Return the pages of source, which show what other pages link to."""
    return sorted({docname for docname, _ in env.domains["source"].data["places"].values()})


def setup(app: Sphinx) -> dict[str, Any]:
    """Extend Sphinx."""
    app.add_domain(SourceDomain)
    app.add_directive("source-file", SourceFile)
    app.add_directive("source-folder", Folder)
    app.add_node(Back)
    app.connect("doctree-read", read_links, priority=100)  # before images are collected
    app.connect("doctree-resolved", write_backs)
    app.connect("env-updated", rewrite_backs)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True, "env_version": 1}
