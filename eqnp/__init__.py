"""Equilibrium Propagation by hand, on NumPy and CuPy.

The names in ``__all__`` are public; docs/api.md shows them, and ``__init__.pyi`` tells them to type checkers. Each is
imported when it is first used, so that ``import eqnp`` and ``eqnp --help`` are quick. Start reading at
``eqnp/from_scratch.py``; the README gives the order of the rest.
"""

import sys

__version__ = "0.1.0"

if sys.version_info < (3, 11):  # noqa: UP036  in a clone any Python may come here; pip refuses it only when it installs
    _needs = "Python 3.11 or later; this is Python " + sys.version.split()[0] + " (" + sys.executable + ")"
    if sys.argv[:1] == ["-m"]:  # python -m eqnp: a line, not a traceback
        sys.stderr.write("eqnp: needs " + _needs + "\n")
        sys.exit(4)
    raise ImportError("eqnp needs " + _needs)

from eqnp.clone import find_rooms as _find_rooms
from eqnp.lazy import offer as _offer

_find_rooms(__file__)

__all__, __getattr__, __dir__ = _offer(
    globals(),
    {
        "eqnp.api.exchange": "export_run import_run",
        "eqnp.api.functions": "bptt build configure estimate exact_gradient load_data open_run relax resume train",
        "eqnp.api.plotting": "draw_runs",
        "eqnp.api.predicting": "predict_files",
        "eqnp.api.run": "Run",
        "eqnp.api.showing": "show_run",
        "eqnp.api.survey": "survey",
        "eqnp.api.tensorboard": "TensorBoard",
        "eqnp.architecture": "Architecture",
        "eqnp.backends.backend": "get_backend",
        "eqnp.connections.layers": "ConvLayer DenseLayer Skip",
        "eqnp.contrasts": "asymmetric_contrast common_contrast symmetric_contrast vector_field_contrast",
        "eqnp.dynamics": "Phase Phases Relaxation",
        "eqnp.errors": "EqnpError",
        "eqnp.estimators": "Estimate",
        "eqnp.losses": "CrossEntropy Loss SquaredError one_hot",
        "eqnp.networks": "Network SymmetricNetwork VectorFieldNetwork",
        "eqnp.ops.activations": "Activation",
        "eqnp.prepared": "PreparedNetwork",
        "eqnp.runs.config": "Config",
        "eqnp.stencils": "Stencil circle four_point one_sided random_sign symmetric",
    },
)
