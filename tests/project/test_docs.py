"""The documents: links lead somewhere, tables say what the code says. ``test_examples`` runs what they show."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
import shutil
import subprocess
from dataclasses import MISSING, fields, is_dataclass
from typing import get_type_hints

import pytest
from examples import blocks
from places import ROOT

import eqnp
from docs.site.sources import names
from eqnp.cli.main import eqnp as commands_of_eqnp
from eqnp.cli.sweep import sweep
from eqnp.ops.activations import ACTIVATIONS
from eqnp.runs.config import Config, Layer, Skip
from eqnp.sweeps.checking import check_networks
from eqnp.sweeps.file import read_sweep

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BENCHMARKS = ROOT / "benchmarks"
LINKING = [*DOCUMENTS, BENCHMARKS / "README.md", *sorted((BENCHMARKS / "results").rglob("*.md"))]


def anchors(path):
    """Return the anchors of a document's headings, as GitHub makes them; of a file of Python, the names in it."""
    if path.suffix == ".py":
        return names(path.read_text())
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


def test_every_sweep_file_of_the_benchmarks_is_one_and_is_in_their_readme():
    for path in BENCHMARKS.glob("*.toml"):
        assert f"({path.name})" in (BENCHMARKS / "README.md").read_text()
        check_networks(path, read_sweep(path))


SCRIPTS = [block.text for block in blocks(ROOT / "docs" / "sweeps.md") if block.language == "bash"]


@pytest.mark.parametrize("number", range(len(SCRIPTS)))
def test_scripts_for_clusters_can_be_parsed(number):
    if shutil.which("bash"):
        subprocess.run(["bash", "-n"], input=SCRIPTS[number], text=True, check=True)
    found = re.findall(r"\beqnp (sweep .*)", SCRIPTS[number])
    assert found
    for words in found:
        words = shlex.split(words.replace("$SLURM_ARRAY_TASK_ID", "3"))
        parsed = sweep.make_context("sweep", words[1:]).params
        assert parsed["index"] == 3 or parsed["executor"] == "mpi"


SCALING = blocks(ROOT / "docs" / "scaling.md")


def test_commands_for_several_processes_can_be_parsed():
    """Their options exist; mpiexec and Slurm are not started."""
    lines = "".join(block.text for block in SCALING if block.language in ("sh", "bash")).splitlines()
    found = [line.partition(" eqnp ")[2].split("#")[0] for line in lines if line.startswith(("mpiexec ", "srun "))]
    assert len(found) >= 8
    for name, *words in map(shlex.split, found):
        command = commands_of_eqnp.get_command(None, name)
        command.make_context(name, words)


@pytest.mark.parametrize("script", [block.text for block in SCALING if block.language == "bash"])
def test_batch_scripts_are_bash(script):
    bash = shutil.which("bash") or pytest.skip("no bash")
    assert subprocess.run([bash, "-n"], input=script, text=True, capture_output=True).returncode == 0
    assert "#SBATCH --nodes=4\n" in script and "\nsrun " in script


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


def test_every_public_name_is_documented():
    text = (ROOT / "docs" / "api.md").read_text()
    assert not [name for name in eqnp.__all__ if f"`{name}`" not in text]


def test_no_step_of_ci_can_fail_unseen():
    """With set -e bash goes on if a command before the last && of a line fails."""
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert "set -euo pipefail" in lines
    assert not [line for line in lines if " && " in line and not line.startswith(("echo ", "command=", "#"))]
