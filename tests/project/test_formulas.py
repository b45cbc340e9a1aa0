"""Formulas of the documents become MathML that says the same. It needs the packages of the extra ``docs``."""

from __future__ import annotations

import re

import pytest
from examples import DOCUMENTS
from places import ROOT

pytest.importorskip("sphinx")

from docs.site.formulas import mathml


def shape(tex: str) -> str:
    """Return a formula as MathML without spaces and line breaks."""
    return re.sub(r"\s+", "", re.sub(r"^<math[^>]*>|</math>$", "", mathml(tex).strip()))


@pytest.mark.parametrize(
    ("one", "same"),
    [
        (r"\tfrac12 |s|", r"\tfrac{1}{2} |s|"),
        (r"\frac1N", r"\frac{1}{N}"),
        (r"x^10", r"x^{1} 0"),
        (r"x^{10}", r"x^{10}"),
        (r"\underbrace{a_{n}}_{\text{b}}", r"\underset{\text{b}}{\underbrace{a_{n}}}"),
        (r"\Big(a\Big)", r"\Bigl(a\Bigr)"),
        (r"a \iff b", r"a \Longleftrightarrow b"),
        (r"1, \dots, n", r"1, \ldots, n"),
    ],
)
def test_docutils_reads_it_as_tex_does(one, same):
    assert shape(one) == shape(same)


def test_a_half_is_one_over_two():
    assert "<mfrac><mn>1</mn><mn>2</mn></mfrac>" in shape(r"\frac12 |s|^2")


def test_a_number_of_two_digits_stays_one_number():
    assert "<mn>12</mn>" in shape("12 + x")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_formula_can_be_converted(path):
    text = re.sub(r"^```.*?^```$|^    .*$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    for block, inline in re.findall(r"\$\$(.+?)\$\$|\$(.+?)\$", text, re.DOTALL):
        mathml(block or inline)
