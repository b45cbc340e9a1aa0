"""Sphinx: formulas as MathML, which browsers show without JavaScript and screen readers read."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

_LOG = logging.getLogger(__name__)
# What docutils does not know, and what says the same.
_OTHER_WORDS = {
    "dots": "ldots",
    "iff": "Longleftrightarrow",
    "implies": "Longrightarrow",
    "stackrel": "overset",
}


_GROUP = r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
_UNDER = re.compile(r"\\underbrace" + _GROUP + "_" + _GROUP)  # docutils puts what is said below it to the right


def mathml(tex: str, *, is_block: bool = False) -> str:
    """Return TeX as MathML.

    Raises:
        MathError: docutils cannot convert it.
    """
    # Of two digits TeX takes one, docutils both: 1/2 in \tfrac12, x^1 0 in x^10.
    tex = re.sub(r"\\([td]?frac) *(\d) *(\d)", r"\\\1{\2}{\3}", tex)
    tex = re.sub(r"([_^])(\d)(?=\d)", r"\1{\2}", tex)
    tex = _UNDER.sub(r"\\underset{\2}{\\underbrace{\1}}", tex)
    tex = re.sub(r"\\(big|Big|bigg|Bigg)(?![A-Za-z])\s*(\\?.)", _fence, tex)
    words = re.sub(r"\\([A-Za-z]+)", lambda match: "\\" + _OTHER_WORDS.get(match[1], match[1]), tex)
    return tex2mathml(words, as_block=is_block)


def _fence(match: re.Match[str]) -> str:
    side = "l" if match[2] in ("(", "[", "\\{") else "r"
    return f"\\{match[1]}{side}{match[2]}"


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula in running text."""
    _write(translator, node, is_block=False)
    raise nodes.SkipNode


def visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula on lines of its own."""
    translator.body.append(translator.starttag(node, "div", CLASS="math-block"))
    _write(translator, node, is_block=True)
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def _write(translator: HTML5Translator, node: nodes.Element, *, is_block: bool) -> None:
    try:
        translator.body.append(mathml(node.astext(), is_block=is_block))
    except MathError as error:
        _LOG.warning("formula %r: %s", node.astext(), error, location=node)


def setup(app: Sphinx) -> dict[str, Any]:
    """Extend Sphinx."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
