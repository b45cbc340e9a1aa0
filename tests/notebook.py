"""Executes the cells of a notebook without Jupyter. ``python tests/notebook.py FILE`` writes the outputs to the file.

Of IPython it knows what the tutorial uses: ``%matplotlib``, which it skips; ``!eqnp ...``; and that a figure of pyplot,
or the value of a last line, is shown. So the notebook runs in Jupyter too.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]\d+)?(?![\w])")


def read(path):
    """Return the notebook in a file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def code_cells(notebook):
    """Return the cells of code, in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source(cell):
    """Return the text of a cell."""
    return "".join(cell["source"])


def execute(notebook):
    """Run all cells of code in order, where the process is; return the outputs of each, as a notebook stores them."""
    import matplotlib

    matplotlib.use("Agg")
    here, space = Path.cwd(), {"__name__": "__main__"}
    try:
        return [_run(source(cell), space) for cell in code_cells(notebook)]
    finally:
        os.chdir(here)


def text_of(outputs):
    """Return the text among the outputs of a cell."""
    parts = []
    for output in outputs:
        text = output["text"] if output["output_type"] == "stream" else output["data"].get("text/plain", "")
        parts.append("".join(text))
    return "\n".join(part for part in parts if part)


def pictures(outputs):
    """Return how many figures are among the outputs of a cell."""
    return sum("image/png" in output.get("data", {}) for output in outputs)


def words_and_numbers(text):
    """Return a text without its numbers, times and widths of columns; and its numbers."""
    text = re.sub(r"\b\d+:\d\d\b", "TIME", text)
    return NUMBER.sub("#", text).split(), [float(number) for number in NUMBER.findall(text)]


def _run(text, space):
    """Return the outputs of one cell."""
    from matplotlib import pyplot

    pyplot.close("all")
    out, value = io.StringIO(), None
    with redirect_stdout(out):
        for part in _parts(text):
            if isinstance(part, str):
                _command(part)
            elif isinstance(part, ast.Expr):
                value = eval(compile(ast.Expression(part.value), "cell", "eval"), space)
            else:
                exec(compile(ast.Module([part], []), "cell", "exec"), space)
                value = None
    shown = [pyplot.figure(number) for number in pyplot.get_fignums()]
    if hasattr(value, "savefig"):
        shown.append(value)
    outputs = [_stream(out.getvalue())] if out.getvalue() else []
    outputs += [_display({"image/png": _png(figure), "text/plain": ["<Figure>"]}) for figure in shown]
    if value is not None and not hasattr(value, "savefig"):
        outputs.append(_display({"text/plain": _lines(repr(value))}))
    pyplot.close("all")
    return outputs


def _parts(text):
    """Yield the statements of a cell, and its lines ``!command`` as text."""
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    block: list[str] = []
    for line in [*lines, "!"]:
        if line.startswith("!"):
            yield from ast.parse("\n".join(block)).body
            block = []
            if line != "!":
                yield line[1:]
        else:
            block.append(line)


def _command(line):
    """Run ``eqnp ...`` in a shell, and print what it writes; stderr, where progress is, only if there is no result."""
    assert line.startswith("eqnp "), line
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EQNP_")}
    command = f"{shlex.quote(sys.executable)} -m {line}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=clean | {"COLUMNS": "80"})
    print(done.stdout or done.stderr, end="")


def _png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode() + "\n"


def _lines(text):
    return text.splitlines(keepends=True)


def _stream(text):
    return {"name": "stdout", "output_type": "stream", "text": _lines(text)}


def _display(data):
    return {"data": data, "metadata": {}, "output_type": "display_data"}


def write(path, notebook):
    """Write a notebook as Jupyter does: one space of indentation, a line break at the end."""
    Path(path).write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(path):
    """Execute the notebook in a file and store its outputs there."""
    notebook = read(path)
    for number, (cell, outputs) in enumerate(zip(code_cells(notebook), execute(notebook), strict=True), 1):
        cell["outputs"], cell["execution_count"] = outputs, number
    write(path, notebook)


if __name__ == "__main__":
    main(sys.argv[1])
