"""Python that stands in a clone: the folder ``eqnp`` of the clone is what it imports, whatever is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from places import ROOT

ROOMS = ("eqnp", "data", "cli")


def python(*words, folder, **options):
    """Run Python in a folder as a user would, where no editable install finds the packages."""
    forget = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in getattr(f, '__module__', '')];"
        "sys.path_hooks[:] = [h for h in sys.path_hooks if 'editable' not in getattr(h, '__module__', '')];"
        "sys.path[:] = [p for p in sys.path if '__editable__' not in p]; sys.path.insert(0, '');"
    )
    code = words[1] if words[0] == "-c" else module(*words[1:])
    command = [sys.executable, "-c", forget + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, **options)


def module(name, *arguments):
    """Return the code that does what ``python -m`` does."""
    return f"import runpy; sys.argv[:] = {[name, *arguments]!r}; runpy.run_module({name!r}, None, '__main__', True)"


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone, which nothing is installed from."""
    folder = tmp_path_factory.mktemp("clone")
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for room in ("tests", "docs"):
        (folder / room).mkdir()
    shutil.copy2(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize("name", ["eqnp.data", "eqnp.cli", "eqnp.cli.main", "eqnp.data.mnist_small"])
def test_a_clone_imports_its_own_rooms(clone, name):
    done = python("-c", f"import {name}; print(sys.modules[{name!r}].__file__)", folder=clone)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(clone)


def test_a_clone_reads_its_data(clone):
    done = python("-c", "import eqnp.data; print(len(eqnp.data.load('mnist-small').train_images))", folder=clone)
    assert done.stdout == "5000\n", done.stderr


@pytest.mark.parametrize("name", ["eqnp", "eqnp.cli"])
def test_a_clone_runs_the_command_line(clone, name):
    done = python("-m", name, "presets", folder=clone)
    assert done.returncode == 0 and "mnist-mlp" in done.stdout, done.stderr


@pytest.mark.parametrize("name", ["eqnp.tests", "eqnp.docs", "eqnp.eqnp", "eqnp.benchmarks", "eqnp.data.cli"])
def test_a_clones_other_folders_are_no_part_of_the_package(clone, name):
    done = python("-c", f"import {name}", folder=clone)
    assert done.returncode == 1 and "ModuleNotFoundError" in done.stderr


def test_a_clone_that_is_imported_twice_is_found_once(clone):
    code = "import eqnp, sys, importlib; n = len(sys.meta_path); importlib.reload(eqnp); print(len(sys.meta_path) - n)"
    assert python("-c", code, folder=clone).stdout == "0\n"


def test_what_stands_beside_an_installed_package_is_not_taken_for_a_clone(clone, tmp_path):
    """Folders named cli and data, of somebody else, beside a package that holds its own."""
    for room in ROOMS:
        shutil.copytree(clone / room, tmp_path / room)
    for room in ("data", "cli"):
        shutil.copytree(clone / room, tmp_path / "eqnp" / room)
    shutil.copy2(clone / "pyproject.toml", tmp_path)
    done = python("-c", "import eqnp.cli; print(eqnp.cli.__file__)", folder=tmp_path)
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "eqnp"), done.stderr


def test_a_zipped_package_is_imported(clone, tmp_path):
    with zipfile.ZipFile(tmp_path / "eqnp.zip", "w") as file:
        for path in (clone / "eqnp").rglob("*.py"):
            file.write(path, path.relative_to(clone))
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'eqnp.zip')!r}); import eqnp.errors; print(eqnp.__file__)"
    done = python("-c", code, folder=tmp_path)
    assert "eqnp.zip" in done.stdout, done.stderr


@pytest.mark.parametrize("package", ["click", "numpy"])
def test_a_clone_without_its_packages_says_so(clone, package):
    done = python("-c", f"sys.modules[{package!r}] = None; {module('eqnp', 'doctor')}", folder=clone)
    assert done.returncode == 4 and len(done.stderr.splitlines()) == 1, done.stderr
    assert f"the package {package}" in done.stderr and "pip install ." in done.stderr


def test_an_older_python_is_told_in_one_line(clone):
    """Before anything is imported that it cannot read."""
    old = "import sys; sys.version_info = (3, 9, 18, 'final', 0); sys.version = '3.9.18 (main)';"
    done = python("-c", f"{old} sys.argv[:] = ['-m']; import eqnp", folder=clone)
    assert done.returncode == 4 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "eqnp: needs Python 3.11 or later; this is Python 3.9.18" in done.stderr
    done = python("-c", f"{old} import eqnp", folder=clone)
    assert done.stderr.splitlines()[-1].startswith("ImportError: eqnp needs Python 3.11 or later; this is Python 3.9")


def test_pip_of_an_older_python_names_the_python_and_not_every_version_of_numpy():
    """Each requirement has the marker, without which pip reports first that NumPy has no version for that Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    marker = f"python_version >= '{project['requires-python'].removeprefix('>=')}'"
    extras = [each for name, some in project["optional-dependencies"].items() if name != "mkl" for each in some]
    for requirement in [*project["dependencies"], *extras]:
        assert marker in requirement, requirement


def test_importing_eqnp_is_quick(clone):
    code = "before = set(sys.modules); import eqnp; print(sorted(set(sys.modules) - before))"
    done = python("-c", code, folder=clone)
    assert len(done.stdout.split(",")) <= 6, done.stdout


def test_the_installed_package_runs_as_a_module(tmp_path):
    command = [sys.executable, "-m", "eqnp", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.startswith("eqnp, version")
