"""What no module may use: constructs that execute, unpack or fetch what a stranger wrote."""

from __future__ import annotations

import ast

import pytest
from places import ROOT

FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "telnetlib"}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "input"),
    *("os.system", "os.popen", "tempfile.mktemp", "extractall", "extract", "unpack_archive"),
    *("np.load", "numpy.load", "np.fromfile", "np.memmap", "yaml.load"),
}
FORBIDDEN_WORDS = {"shell=True", "allow_pickle=True", "verify=False"}


def found_in(tree):
    """Yield every forbidden construct in a module, with its line."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        yield from (f"{node.lineno}: import {name}" for name in names if name.split(".")[0] in FORBIDDEN_MODULES)
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            if call in FORBIDDEN_CALLS or (call.rpartition(".")[2] in FORBIDDEN_CALLS - {"compile"} and "." in call):
                yield f"{node.lineno}: {call}()"
            yield from (f"{node.lineno}: {word}" for word in map(ast.unparse, node.keywords) if word in FORBIDDEN_WORDS)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("http://"):
            yield f"{node.lineno}: {node.value}"
        if isinstance(node, ast.Attribute) and node.attr in ("_create_unverified_context", "CERT_NONE"):
            yield f"{node.lineno}: {node.attr}"


def test_no_module_uses_what_executes_or_unpacks_unseen():
    found = [
        f"{path.relative_to(ROOT)}:{what}"
        for folder in ("eqnp", "data", "cli")
        for path in (ROOT / folder).rglob("*.py")
        for what in found_in(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, found


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from yaml import load",
        "eval(x)",
        "tar.extractall(p)",
        "subprocess.run(c, shell=True)",
        "np.load(f)",
        "open_url('http://example.org')",
        "read(f, allow_pickle=True)",
        "ssl._create_unverified_context()",
        "os.system('x')",
    ],
)
def test_the_test_sees_them(line):
    assert list(found_in(ast.parse(line)))
