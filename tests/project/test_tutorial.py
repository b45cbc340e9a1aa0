"""The tutorial: its cells run, and what the notebook shows is what they give."""

from __future__ import annotations

import re
import warnings

import notebook
import pytest
from places import ROOT

TUTORIAL = ROOT / "docs" / "tutorial.ipynb"
SHOWN = 0.02  # relative, of numbers with two or three digits: the last one may be rounded the other way


def test_the_tutorial_shows_what_its_cells_give(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    book = notebook.read(TUTORIAL)
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # of NumPy, where a sign is flipped on purpose
        fresh = notebook.execute(book)
    for cell, outputs in zip(notebook.code_cells(book), fresh, strict=True):
        what = f"{notebook.source(cell)[:60]!r}: run `python tests/notebook.py docs/tutorial.ipynb`"
        words, numbers = notebook.words_and_numbers(notebook.text_of(cell["outputs"]))
        own_words, own_numbers = notebook.words_and_numbers(notebook.text_of(outputs))
        assert own_words == words, what
        assert own_numbers == pytest.approx(numbers, rel=SHOWN, abs=1e-10), what
        assert notebook.pictures(outputs) == notebook.pictures(cell["outputs"]), what
        assert not [output for output in outputs if output["output_type"] == "error"], what


def test_links_of_the_notebook_lead_somewhere():
    cells = [cell for cell in notebook.read(TUTORIAL)["cells"] if cell["cell_type"] == "markdown"]
    targets = [target for cell in cells for target in re.findall(r"\]\((?!https?://)([^)#]+)", notebook.source(cell))]
    assert len(targets) > 5
    for target in targets:
        assert (TUTORIAL.parent / target).exists(), target


def test_the_notebook_is_one():
    book = notebook.read(TUTORIAL)
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in book["cells"]]
    assert len(set(ids)) == len(ids) and book["cells"][0]["source"][0].startswith("# ")
    assert "/tmp" not in TUTORIAL.read_text(encoding="utf-8")
    assert all(cell["outputs"] is not None and cell["execution_count"] for cell in notebook.code_cells(book))
