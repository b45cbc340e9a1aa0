"""The ladder of imports: a room may import from the rooms below it, and nobody imports automatic differentiation."""

from __future__ import annotations

import ast
import subprocess
import sys

from places import ROOT

LADDER = [
    "shown errors __init__ clone lazy",
    "backends.system backends.allocator",
    "backends.limits backends.device backends.launcher",
    "backends.backend",
    "inputs backends.workspace backends.blocks backends.products backends.mkl backends.sharding backends.cuda "
    "backends.flat backends.peers backends.notices",
    "backends.world backends.nccl",
    "backends.mpi backends",
    "ops",
    "connections.layers",
    "connections.contract",
    "connections.kernels",
    "connections.dense connections.conv_pool",
    "connections.merged connections.winograd",
    "connections.cuda",
    "connections.cuda_winograd",
    "connections.forms connections",
    "losses optim stencils graph",
    "architecture",
    "dropout links",
    "networks",
    "prepared",
    "step holomorphic",
    "derivatives",
    "dynamics asymmetric",
    "contrasts",
    "estimators reference",
    "learner watching blame",
    "training",
    "analysis.diagnostics",
    "analysis.steady analysis.quality",
    "analysis.cures",
    "analysis.settling analysis.theorem analysis.verdict analysis.precision analysis.trajectories analysis.measuring "
    "analysis.costs",
    "analysis.circles analysis.drift",
    "analysis.calibration analysis.exactness",
    "analysis.plots",
    "analysis.picture analysis",
    "runs.storage runs.archives runs.environment runs.hdf5types",
    "runs.hdf5objects",
    "runs.plainhdf5",
    "runs.locks runs.checkpoint runs.figures runs.toml runs.tables",
    "runs.presets runs.spelling runs.datakeys",
    "runs.config",
    "runs.keys runs.overrides runs.changes runs.variables",
    "runs.idle",
    "runs.reading",
    "runs.configfile",
    "runs.origins",
    "runs.template",
    "runs.history runs.runfolder runs.experiment runs",
    "data",
    "from_scratch",
    "api sklearn",
    "sweeps.names",
    "sweeps.file",
    "sweeps.folder",
    "sweeps",
    "cli __main__",
]
RUNG = {name: rung for rung, names in enumerate(LADDER) for name in names.split()}
FORBIDDEN = {"torch", "jax", "autograd", "tensorflow", "tinygrad", "cupy", "mlx"}


NAMES = {
    ".".join(("eqnp", *path.relative_to(ROOT / "eqnp").with_suffix("").parts)).removesuffix(".__init__")
    for path in (ROOT / "eqnp").rglob("*.py")
}


def modules():
    """Yield (dotted name, path) of every module of the package."""
    for folder, prefix in (("eqnp", "eqnp"), ("data", "eqnp.data"), ("cli", "eqnp.cli")):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([prefix, *(p for p in parts if p != "__init__")]), path


def imported(path):
    """Yield every module imported anywhere in a file, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if node.module == "eqnp" or name in NAMES else node.module for name in full)


def place(module):
    """Return a module's name in the ladder: its own, or that of the room that has one rung."""
    parts = module.split(".")[1:]
    if not parts or (parts[0].startswith("__") and parts[0] != "__main__"):
        return "__init__"
    return next(name for n in (2, 1) if (name := ".".join(parts[:n])) in RUNG or n == 1)


def test_every_module_has_its_rung():
    missing = {place(name) for name, _ in modules()} - set(RUNG)
    assert not missing, f"{missing}: give each a rung in LADDER and in docs"


def test_no_room_imports_from_above():
    for name, path in modules():
        for other in imported(path):
            if other.partition(".")[0] == "eqnp":
                assert RUNG[place(other)] <= RUNG[place(name)], f"{name} imports {other}"


def test_the_one_file_imports_numpy_and_the_digits_and_nobody_imports_it():
    graph = {name: set(imported(path)) for name, path in modules()}
    assert graph["eqnp.from_scratch"] == {"typing", "numpy", "eqnp.data"}
    assert not [name for name, others in graph.items() if "eqnp.from_scratch" in others]


def test_no_cycles():
    graph = {name: {o for o in imported(path) if o.startswith("eqnp.")} for name, path in modules()}
    done, doing = set(), []

    def visit(name):
        assert name not in doing, " -> ".join([*doing[doing.index(name) :], name])
        if name in done or name not in graph:
            return
        doing.append(name)
        for other in graph[name]:
            if not name.startswith(other + "."):  # a package's own __init__
                visit(other)
        doing.pop()
        done.add(name)

    for name in graph:
        visit(name)


def test_no_automatic_differentiation_and_cupy_only_by_its_door():
    for name, path in modules():
        found = FORBIDDEN & {other.partition(".")[0] for other in imported(path)}
        assert not found, f"{name} imports {found}"
        if name != "eqnp.backends.backend":
            assert 'import_module("cupy' not in path.read_text(), name


def test_pytorch_is_known_to_the_module_that_reads_its_files_alone():
    for name, path in modules():
        assert ('import_module("torch' in path.read_text()) == (name == "eqnp.runs.weights"), name


def test_import_eqnp_is_light():
    code = "import eqnp, sys; print({'numpy', 'h5py', 'cupy', 'scipy', 'click'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_the_library_leaves_cupy_unimported():
    code = (
        "import sys, pkgutil, importlib, eqnp\n"
        "for m in pkgutil.walk_packages(eqnp.__path__, 'eqnp.'): m.name.endswith('__main__') or "
        "importlib.import_module(m.name)\n"
        "print({'cupy', 'matplotlib'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
