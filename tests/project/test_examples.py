"""Every example in the documents: blocks run, page by page and in order, and commands in running text can be parsed."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path

import datafiles
import numpy as np
import pytest
from commands import SMALL, overrides, run
from examples import DOCUMENTS, LANGUAGES, REASONS, Block, blocks, fault, known_lines, shell_lines, written
from forking import without_curves
from places import ROOT

import eqnp
from eqnp.analysis.diagnostics import cosine

QUICK = overrides(*(setting for setting in SMALL if not setting.startswith("model")))
PAGES = [path for path in DOCUMENTS if any(block.language in ("sh", "python") for block in blocks(path))]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A home with small stand-ins for all datasets, and an empty folder to work in."""
    for variable in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    datafiles.accept_small(monkeypatch)
    place = tmp_path / "home" / "eqnp"
    datafiles.write_mnist(place / "MNIST" / "raw", counts=(60, 40))
    datafiles.write_mnist(place / "FashionMNIST" / "raw", counts=(60, 40))
    datafiles.write_cifar(place / "cifar-10-batches-bin", "binary", count=40)
    datafiles.write_own(tmp_path / "work")
    for block in blocks(ROOT / "docs" / "sweeps.md"):
        if named := re.match(r"# (\w+\.toml)\n", block.text):
            (tmp_path / "work" / named[1]).write_text(block.text)
    monkeypatch.setenv("PYTHONPATH", str(without_curves(tmp_path)))  # of the processes of a sweep
    monkeypatch.chdir(tmp_path / "work")


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_block_of_a_page_runs(path, capsys, machine):
    """In order and in one folder, as a reader runs them; training is made small."""
    space: dict[str, object] = {}
    for block in blocks(path):
        where = f"{name(path)}, line {block.line}"
        if block.reason:
            continue
        if block.language == "python":
            run_python(block, where, space)
        elif block.language == "sh":
            for line in shell_lines(block.text):
                run_command(capsys, line, where)
    if path == ROOT / "README.md":
        assert "'forward.0.weight': ((5, 5, 1, 16), " in capsys.readouterr().out
    if path == ROOT / "docs" / "files.md":
        assert Path("states.png").read_bytes().startswith(b"\x89PNG")


def run_python(block: Block, where: str, space: dict[str, object]) -> None:
    """Run a block of Python. A network of one's own must have the gradient that it claims."""
    for package in ("sklearn", "matplotlib"):
        if package in block.text:
            pytest.importorskip(package)
    if "matplotlib" in block.text:
        import matplotlib

        matplotlib.use("Agg")
    exec(compile(block.text, where, "exec"), space)
    named = [node for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.Name)]
    assigned = {node.id for node in named if isinstance(node.ctx, ast.Store)}
    if "network" in assigned and "result" not in assigned:
        assert learns(space["network"], space["parameters"]), where


def learns(network, parameters):
    """Whether the estimate and BPTT of a network agree with the exact gradient: what is its own is used by them all."""
    parameters = {name: p.astype(np.float64) for name, p in parameters.items()}
    rng = np.random.default_rng(1)
    x, y = rng.random((4, *network.architecture.input_shape)), rng.integers(0, network.architecture.classes, 4)
    exact = eqnp.exact_gradient(network, parameters, x, y).gradient
    estimate = eqnp.estimate(
        network, parameters, x, y, eqnp.symmetric(1e-5), eqnp.Phases(300, 200)
    ).gradient  # so small that no pool switches
    through_time = eqnp.bptt(network, parameters, x, y, 200, 100)
    return min(cosine(g, exact) for g in (estimate, through_time)) > 0.999


def run_command(capsys, line: str, where: str) -> None:
    """Run a command of eqnp. Parse one that downloads, and those that CI runs itself: pip, pytest, site and .ci/."""
    words = shlex.split(line)
    if words[0] != "eqnp" or words[1:3] == ["data", "fetch"]:
        assert fault(line, is_whole=True) == "", f"{where}: {line}"
        assert words[0] != "python" or words[2] == "docs.site", (
            f"{where}: {line}: say why it is not run, <!-- not run: takes long -->"
        )
        return
    words = words[1:]
    words, target = (words[:-2], words[-1]) if ">" in words else (words, None)
    if words[0] == "train" and "--resume" not in words:
        words = [*words, *QUICK, "--quiet"]
    if words[0] == "sweep" and "--no-time" not in words:
        words = [*words, *QUICK]
    result = run(capsys, *words)
    if target is not None:
        Path(target).write_text(result.out)
    assert result.code == (4 if "cupy" in words else 0), f"{where}: {line}: {result.err}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_a_block_has_a_known_language_and_runs_or_says_why_not(path):
    for block in blocks(path):
        where = f"{name(path)}, line {block.line}"
        assert block.language in LANGUAGES, f"{where}: ```{block.language}"
        if block.reason:
            assert block.reason in REASONS, f"{where}: not run: {block.reason}"
            assert re.search(REASONS[block.reason], block.text, re.IGNORECASE), f"{where}: why {block.reason}?"
        if block.reason and block.language == "sh":
            faults = {line: said for line in known_lines(block.text) if (said := fault(line, is_whole=True))}
            assert not faults, f"{where}: {faults}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_toml_is_a_configuration(path, capsys, tmp_path):
    for number, block in enumerate(block for block in blocks(path) if block.language == "toml"):
        tomllib.loads(block.text)
        file = tmp_path / f"{number}.toml"
        file.write_text(block.text)
        command = ("sweep", file, "--dry-run", "--no-time") if path.name == "sweeps.md" else ("config", "check", file)
        result = run(capsys, *command)
        assert result.code == 0, f"{name(path)}, line {block.line}: {result.err}"


# Mistakes that a document shows on purpose.
WRONG = {
    ("docs/configuration.md", "eqnp train --momentum 0.9"),
    ("docs/troubleshooting.md", "pip install eqnp"),  # another project's package
    ("docs/troubleshooting.md", "pip uninstall eqnp"),
}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_commands_in_running_text_are_commands(path):
    found = {each: said for each in written(path) if (said := fault(each, is_whole=False))}
    wrong = {each for place, each in WRONG if place == name(path)}
    assert set(found) == wrong, f"{name(path)}: {found}"


@pytest.mark.parametrize(
    "command",
    [
        "eqnp trian digits",
        "eqnp train --epoch 3",
        "eqnp train --set training.epoch=3",
        "eqnp train --set training.epochs=many",
        "eqnp train --set data.foldr=...",
        "eqnp data fetched mnist",
        "python -m benchmarks.posters",
        "python -m benchmarks.seeds --sedes 3",
        "pip install '.[cuda]'",
        "pip install nunpy",
        "pytest -m slowly",
        "pytest tests/maths/test_nothing.py",
        ".ci/nothing",
        "rm -r runs",
    ],
)
def test_a_mistake_in_a_command_is_found(command):
    assert fault(command, is_whole=False)


def test_a_block_that_needs_something_says_so(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n\n<!-- not run: needs MPI -->\n```sh\nmpiexec -n 2 eqnp train\n```\n\n```python\n1\n```\n")
    assert blocks(page) == [Block("sh", "mpiexec -n 2 eqnp train\n", 5, "needs MPI"), Block("python", "1\n", 9, "")]
