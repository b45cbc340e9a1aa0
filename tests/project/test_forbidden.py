"""What the source may not contain: ways to run code that is data, and system calls outside their one place."""

from __future__ import annotations

import ast
import re

import pytest
from places import ROOT

SOURCES = [path for folder in ("eqnp", "data", "cli") for path in sorted((ROOT / folder).rglob("*.py"))]

# Names that may be neither called nor referred to, with or without a module before them.
NAMES = {"eval", "exec", "compile", "__import__", "extractall", "system", "popen", "unsafe_load", "execv", "spawnl"}
# Modules that run code in the data that they read, or believe it; a function of theirs makes no difference.
MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "yaml",
    "code",
    "telnetlib",
    "ftplib",
}
CALLS = {"re.compile"}  # of a forbidden name that is another thing
KEYWORDS = {"shell": True, "allow_pickle": True}
HDF5 = {"h5py": {"eqnp/runs/checkpoint.py"}}  # writes; eqnp/runs/plainhdf5.py reads

# What only some systems have, and the one file that may use it.
PLACES = {
    "fcntl": {"eqnp/runs/locks.py"},
    "msvcrt": {"eqnp/runs/locks.py"},
    "resource": {"eqnp/backends/limits.py", "eqnp/analysis/measuring.py"},
    "signal": {"eqnp/api/signals.py"},
    **HDF5,
}
FLAGS = {"eqnp/runs/storage.py", "cli/main.py"}  # of os.open; main opens os.devnull
SYSTEM_FILES = {"eqnp/backends/system.py"}


def dotted(node):
    """Return the name of a node, such as ``os.path.join``; "" if it is no name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def imported(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def texts(tree):
    """Yield every string that is no docstring, with its line."""
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield node.lineno, node.value


def faults(source, name):
    """Yield what is forbidden in a source, with its line."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for module in imported(node):
            first = module.partition(".")[0]
            if first in MODULES or name not in PLACES.get(first, {name}):
                yield node.lineno, f"import {module}"
        if isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name in NAMES)
        called = dotted(node)
        if called.rpartition(".")[2] in NAMES and called not in CALLS:
            yield node.lineno, called
        if called.startswith("os.O_") and name not in FLAGS:
            yield node.lineno, called
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                if keyword.arg in KEYWORDS and value is not False and value is not None:
                    yield node.lineno, f"{keyword.arg}={value}"
                elif keyword.arg in KEYWORDS and not isinstance(keyword.value, ast.Constant):
                    yield node.lineno, f"{keyword.arg}=..."
    for line, text in texts(tree):
        if re.match(r"(http|ftp|telnet)://\S", text, re.IGNORECASE):
            yield line, text
        if text.startswith(("/proc", "/sys", "/dev")) and name not in SYSTEM_FILES:
            yield line, text
        if text.startswith("O_") and name not in FLAGS:
            yield line, text


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_has_a_forbidden_construct(path):
    assert list(faults(path.read_text(), str(path.relative_to(ROOT)))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import load",
        "import yaml",
        "eval('1')",
        "exec(text)",
        "run = eval",
        "builtins.eval('1')",
        "tar.extractall(folder)",
        "subprocess.run('ls', shell=True)",
        "subprocess.run('ls', shell=flag)",
        "np.load(file, allow_pickle=True)",
        "os.system('ls')",
        "from os import system",
        "urlopen('http://example.org')",
        "urlopen('HTTP://example.org')",
        "import fcntl",
        "os.open(path, os.O_RDONLY)",
        "getattr(os, 'O_NOFOLLOW', 0)",
        "open('/proc/cpuinfo')",
        "Path('/sys/devices')",
        "import h5py",
        "def f():\n    import h5py.h5d",
    ],
)
def test_the_test_finds_what_it_looks_for(source):
    assert len(list(faults(source, "eqnp/some.py"))) == 1


@pytest.mark.parametrize(
    "source",
    ["import re\nre.compile('a')", "'''http: in a docstring'''", "subprocess.run(['ls'], shell=False)", "'https://a'"],
)
def test_the_test_lets_pass_what_is_harmless(source):
    assert list(faults(source, "eqnp/some.py")) == []


def test_hdf5_is_opened_only_to_write():
    """libhdf5 may crash on a file of unknown origin; ``eqnp.runs.plainhdf5`` reads files."""
    tree = ast.parse((ROOT / "eqnp" / "runs" / "checkpoint.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and dotted(node.func) == "h5py.File"]
    assert [ast.unparse(call.args[1]) for call in calls] == ["'w'"]
    assert [ast.unparse(call.args[0]) for call in calls] == ["buffer"]
