"""The documents: commands run, examples work, links lead somewhere, tables say what the code says."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
import shutil
import subprocess
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import datafiles
import numpy as np
import pytest
from commands import SMALL, overrides, run
from places import ROOT

import eqnp
from eqnp.analysis.diagnostics import cosine
from eqnp.cli.main import eqnp as commands_of_eqnp
from eqnp.ops.activations import ACTIVATIONS
from eqnp.runs.config import Config, Layer, Skip

QUICK = overrides(*(setting for setting in SMALL if not setting.startswith("model")))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BENCHMARKS = ROOT / "benchmarks"
LINKING = [*DOCUMENTS, BENCHMARKS / "README.md", *sorted((BENCHMARKS / "results").rglob("*.md"))]


def blocks(path, language):
    """Return the fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def commands(path):
    """Return the eqnp commands in a document's shell blocks, each as words."""
    lines = "".join(blocks(path, "sh")).replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in line.split("#")[0].split("&&")]
    return [shlex.split(part)[1:] for part in parts if part.startswith("eqnp ")]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A home with small stand-ins for all datasets, and an empty folder to work in."""
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    datafiles.accept_small(monkeypatch)
    place = tmp_path / "home" / "eqnp"
    datafiles.write_mnist(place / "MNIST" / "raw", counts=(60, 40))
    datafiles.write_mnist(place / "FashionMNIST" / "raw", counts=(60, 40))
    datafiles.write_cifar(place / "cifar-10-batches-bin", "binary", count=40)
    datafiles.write_own(tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_in_the_documents_runs(path, capsys, machine):
    for words in commands(path):
        if words[:2] == ["data", "fetch"]:
            assert run(capsys, *words[:2], "--help").code == 0
            continue
        if words[0] == "train" and "--resume" not in words:
            words = [*words, *QUICK, "--quiet"]
        words, target = (words[:-2], words[-1]) if ">" in words else (words, None)
        result = run(capsys, *words)
        if target is not None:
            Path(target).write_text(result.out)
        assert result.code == (4 if "cupy" in words else 0), f"{path.name}: {shlex.join(words)}: {result.err}"


SCALING = ROOT / "docs" / "scaling.md"


def test_commands_for_several_processes_can_be_parsed():
    """Their options exist; mpiexec and Slurm are not started."""
    lines = "".join(blocks(SCALING, "sh") + blocks(SCALING, "bash")).splitlines()
    found = [line.partition(" eqnp ")[2].split("#")[0] for line in lines if line.startswith(("mpiexec ", "srun "))]
    assert len(found) >= 8
    for name, *words in map(shlex.split, found):
        command = commands_of_eqnp.get_command(None, name)
        command.make_context(name, words)


@pytest.mark.parametrize("number", range(len(blocks(SCALING, "bash"))))
def test_batch_scripts_are_bash(number):
    script = blocks(SCALING, "bash")[number]
    bash = shutil.which("bash") or pytest.skip("no bash")
    assert subprocess.run([bash, "-n"], input=script, text=True, capture_output=True).returncode == 0
    assert "#SBATCH --nodes=4\n" in script and "\nsrun " in script


def test_the_python_example_of_the_readme(capsys):
    (code,) = blocks(ROOT / "README.md", "python")
    exec(compile(code, "README.md", "exec"), {})
    assert "'forward.0.weight': ((5, 5, 1, 16), " in capsys.readouterr().out


def test_the_plot_of_the_states(capsys, machine):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    assert run(capsys, "train", "--out", "runs/digits", "--quiet", *QUICK).code == 0
    assert run(capsys, "states", "runs/digits", "--out", "states.h5", "--samples", "0:3").code == 0
    (code,) = blocks(ROOT / "docs" / "files.md", "python")
    exec(compile(code, "files.md", "exec"), {})
    assert Path("states.png").read_bytes().startswith(b"\x89PNG")


def anchors(path):
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", LINKING, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", path.read_text()):
        place = path.parent / target if target else path
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), f"{target}#{anchor}"


def test_every_benchmark_and_result_is_in_the_benchmarks_readme():
    text = (BENCHMARKS / "README.md").read_text() + (ROOT / "docs" / "poster.md").read_text()
    for path in BENCHMARKS.glob("[!_]*.py"):
        assert f"({path.name})" in text, path.name
        if "argparse" in path.read_text() and path.name != "one_batch.py":
            assert f"python -m benchmarks.{path.stem} " in text, f"{path.name}: its command"
    for path in (BENCHMARKS / "results").iterdir():
        assert f"results/{path.name}" in text, path.name


def test_names_in_the_symbol_table_exist():
    text = (ROOT / "README.md").read_text()
    names = re.findall(r"`([A-Z]\w+)\.(\w+)`", text)
    functions = re.findall(r"`(eqnp\.\w+)\.(\w+)`", text)
    assert len(names) + len(functions) > 6 and functions
    for module, name in functions:
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
    known = {}
    for module in pkgutil.walk_packages(eqnp.__path__, "eqnp."):
        if not module.name.endswith("__main__"):
            known |= vars(importlib.import_module(module.name))
    for owner, name in names:
        declared = getattr(known[owner], "__dataclass_fields__", {})
        assert hasattr(known[owner], name) or name in declared, f"{owner}.{name}"


def rows(kind, prefix):
    """Yield the row of docs/configuration.md for every key of a table."""
    hints = get_type_hints(kind)
    for each in fields(kind):
        if is_dataclass(hints[each.name]):
            continue
        meta, default = each.metadata, each.default
        if each.name in ("layers", "skips"):
            shown = ""
        else:
            shown = {True: "true", False: "false"}.get(default, default) if isinstance(default, bool) else default
            shown = f'`"{shown}"`' if isinstance(shown, str) and not isinstance(default, bool) else f"`{shown}`"
            shown = shown.replace("(", "[").replace(")", "]")
        accepted = ", ".join(f"`{c}`" for c in meta["choices"])
        accepted = accepted or (f"at least {meta['low']:g}" if meta["low"] is not None else "")
        accepted = accepted or (f"above {meta['above']:g}" if meta["above"] is not None else "")
        assert default is not MISSING
        yield f"| `{prefix}{each.name}` | {shown} | {accepted} | {meta['meaning']} |"


def all_rows():
    hints = get_type_hints(Config)
    tables = [(each.name, hints[each.name]) for each in fields(Config) if is_dataclass(hints[each.name])]
    result = list(rows(Config, ""))
    for name, kind in tables:
        result += rows(kind, f"{name}.")
        if name == "model":
            result += [*rows(Layer, "model.layers.N."), *rows(Skip, "model.layers.N.skips.N.")]
    return result


def test_every_key_is_documented():
    text = (ROOT / "docs" / "configuration.md").read_text()
    missing = [row for row in all_rows() if row not in text]
    assert not missing, "docs/configuration.md lacks:\n" + "\n".join(missing)
    documented = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(documented) == len(all_rows()), "docs/configuration.md has rows of keys that are gone"


def test_every_activation_is_documented():
    text = (ROOT / "docs" / "configuration.md").read_text()
    for activation in ACTIVATIONS.values():
        assert f"| {activation.formula} | `{activation.name}` |" in text, activation


PYTHON = blocks(ROOT / "docs" / "api.md", "python")


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_the_python_of_the_api(number, tmp_path, monkeypatch):
    code = PYTHON[number]
    if "sklearn" in code:
        pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    space = {}
    exec(compile(code, f"api.md, block {number}", "exec"), space)
    if "network" in space and "result" not in space:
        assert learns(space["network"], space["parameters"])


def learns(network, parameters):
    """Whether the estimate and BPTT of a network agree with the exact gradient: what is its own is used by them all."""
    parameters = {name: p.astype(np.float64) for name, p in parameters.items()}
    rng = np.random.default_rng(1)
    x, y = rng.random((4, *network.architecture.input_shape)), rng.integers(0, network.architecture.classes, 4)
    exact = eqnp.exact_gradient(network, parameters, x, y).gradient
    estimate = eqnp.estimate(network, parameters, x, y, eqnp.symmetric(0.01), eqnp.Phases(200, 100)).gradient
    through_time = eqnp.bptt(network, parameters, x, y, 200, 100)
    return min(cosine(g, exact) for g in (estimate, through_time)) > 0.999


def test_every_public_name_is_documented():
    text = (ROOT / "docs" / "api.md").read_text()
    assert not [name for name in eqnp.__all__ if f"`{name}`" not in text]
