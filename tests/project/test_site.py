"""The site's generator, without Sphinx: which files are pages, and how source is cut into text and code.

``.ci/run`` builds the site itself, where every warning and every broken link is an error.
"""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from places import ROOT

import eqnp
from docs.site import repository
from docs.site.check import broken_links
from docs.site.prose import Fields, Formula, Items, Paragraph, Piece, blocks, pieces
from docs.site.sources import names, parts

READ = [path for path in repository.pages() if path.endswith(".py")]


def words(text: str) -> Counter[str]:
    """Return how often each word is in a text, without the marks of comments and docstrings."""
    return Counter(re.sub(r"^#|\"\"\"|^-+$|\\\\", "", word) for word in text.split())


@pytest.mark.parametrize("path", READ)
def test_no_word_of_a_file_is_lost(path):
    """Code, docstrings and comments: a page has every word as often as the file."""
    text = (ROOT / path).read_text()
    shown = words("\n".join(f"{part.title} {part.text} {part.code}" for part in parts(text)))
    written = words(text)
    changed = {word for word in shown.keys() | written.keys() if shown[word] != written[word]}
    # In a raw docstring, and in one that is not, a backslash is read differently. A title loses its dashes.
    assert not {word for word in changed if word and "\\" not in word}, changed


def test_a_function_has_its_docstring_beside_its_code():
    text = (
        '"""A file."""\n\nimport os\n\nA = 1  # one\n\n\n# ---- a heading\n# why\ndef f(x):\n    """Return x."""\n'
        '    # how\n    return x\n\n\nclass C:\n    """A class."""\n\n'
        '    def g(self):\n        """Return 2."""\n        return 2\n'
    )
    found = [(part.names, part.title, part.text.strip(), part.code) for part in parts(text)]
    assert found == [
        ([], "", "A file.", ""),
        (["A"], "", "", "import os\n\nA = 1  # one"),
        (["f"], "a heading", "why\n\nReturn x.", "def f(x):"),
        ([], "", "how", "    return x"),
        (["C"], "", "A class.", "class C:"),
        (["C.g"], "", "Return 2.", "    def g(self):\n        return 2"),
    ]
    assert names(text) == {"A", "f", "C", "C.g"}


def test_a_comment_inside_brackets_stays_in_the_code():
    (_, part) = parts("a = [\n    1,\n    # the second\n    2,\n]\n")
    assert part.code == "a = [\n    1,\n    # the second\n    2,\n]" and not part.text


def test_a_docstring_is_cut_into_blocks():
    text = """Return it.

    It is
    long.

        E = |s|^2 - Phi

    - one
      more
    - two

    Raises:
        ValueError: it is
            wrong.
    """
    assert blocks(text) == [
        Paragraph("Return it."),
        Paragraph("It is long."),
        Formula("E = |s|^2 - Phi"),
        Items(("one more", "two")),
        Fields("Raises", (("ValueError", "it is wrong."),)),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("s^{n+1} is", [Piece("text", "s"), Piece("sup", "n+1"), Piece("text", " is")]),
        ("w_out^T y", [Piece("text", "w"), Piece("sub", "out"), Piece("sup", "T"), Piece("text", " y")]),
        ("dPhi_beta/dtheta", [Piece("text", "dPhi"), Piece("sub", "beta"), Piece("text", "/dtheta")]),
        ("(ds'/dw)^T a", [Piece("text", "(ds'/dw)"), Piece("sup", "T"), Piece("text", " a")]),
        ("at s_*.", [Piece("text", "at s"), Piece("sub", "*"), Piece("text", ".")]),
        ("y^ and x_train", [Piece("text", "y^ and x_train")]),
        ("zero_states of a_file.py", [Piece("text", "zero_states of a"), Piece("sub", "file"), Piece("text", ".py")]),
        ("``s_1`` THE", [Piece("code", "s_1"), Piece("text", " THE")]),
        ("THE END. x", [Piece("strong", "THE END."), Piece("text", " x")]),
        (
            "arXiv:2006.03824, so",
            [Piece("link", "arXiv:2006.03824", "https://arxiv.org/abs/2006.03824"), Piece("text", ", so")],
        ),
    ],
)
def test_running_text_has_indices_code_and_links(text, found):
    assert pieces(text, is_mathematics=True) == found


def test_every_document_is_in_the_table_of_contents():
    listed = repository.links("docs/index.md")
    assert not [path for path in repository.documents() if path != "docs/index.md" and path not in listed]


def test_every_public_name_and_every_top_file_of_mathematics_has_a_page_of_code():
    assert not set(repository.public_files()) - set(repository.pages())
    listed = repository.links("docs/code.md")
    order = re.findall(r"\]\((eqnp/\w+\.py)\)", (ROOT / "README.md").read_text())
    assert len(order) > 15 and not [path for path in order if path not in listed]


@pytest.mark.parametrize(
    ("dotted", "place"),
    [
        ("eqnp.dynamics.relax", ("eqnp/dynamics.py", "relax")),
        ("eqnp.ops", ("eqnp/ops/__init__.py", "")),
        ("eqnp.data.load", ("data/__init__.py", "load")),
        ("eqnp.cli.main.main", ("cli/main.py", "main")),
        ("numpy.zeros", None),
    ],
)
def test_a_dotted_name_means_a_file(dotted, place):
    assert repository.path_of(dotted) == place


def test_a_link_out_of_the_repository_is_none():
    assert repository.resolve("docs/check.md", "../README.md") == "README.md"
    assert repository.resolve("docs/check.md", "../../README.md") is None
    assert repository.resolve("docs/check.md", "gone.md") is None


def test_a_link_in_a_notebook_counts(tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    cells = [
        {"cell_type": "markdown", "source": ["# T\n", "[a](b.md#c)"]},
        {"cell_type": "code", "source": ["[x](d.md)"]},
    ]
    (tmp_path / "docs" / "n.ipynb").write_text(json.dumps({"cells": cells}))
    for name in ("b.md", "d.md"):
        (tmp_path / "docs" / name).write_text("# B\n")
    monkeypatch.setattr(repository, "ROOT", tmp_path)
    assert repository.links("docs/n.ipynb") == ["docs/b.md"]


def test_broken_links_of_a_site_are_found(tmp_path):
    (tmp_path / "a.html").write_text('<p id="x"><a href="b.html#y">b</a><a href="#x">x</a><a href="c.html">c</a></p>')
    (tmp_path / "b.html").write_text('<a href="a.html#x">a</a><script src="https://example.org/s.js"></script>')
    assert broken_links(tmp_path) == [
        "a.html: b.html#y: no such place on that page",
        "a.html: c.html leads nowhere",
        "b.html: loads https://example.org/s.js from elsewhere",
    ]


def test_the_public_names_are_those_of_the_stub():
    assert len(repository.public_files()) > 10 and eqnp.__all__
