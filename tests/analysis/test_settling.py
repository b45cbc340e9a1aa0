"""What ``eqnp check --settle`` measures."""

from __future__ import annotations

import nets
import numpy as np
import pytest

from eqnp.analysis.settling import check_settling, cosine
from eqnp.contrasts import common_contrast
from eqnp.dynamics import Phases
from eqnp.estimators import estimate
from eqnp.stencils import symmetric


def test_cosine_by_hand():
    a, b = {"w": np.array([3.0, 0.0]), "b": np.array([4.0])}, {"w": np.array([0.0, 2.0]), "b": np.array([1.0])}
    assert cosine(a, b) == pytest.approx(4 / (5 * np.sqrt(5)))
    assert cosine(a, a) == pytest.approx(1) and cosine(a, {"w": np.zeros(2), "b": np.zeros(1)}) == 0


def measure(case, configured=("synchronous", 1.0, 10, 5), beta=0.02):
    return check_settling(case.network, case.parameters, case.x, case.target, configured, beta, 800)


def test_a_curved_net_settles_to_the_exact_gradient_in_every_way():
    case = nets.make("deep dense", "cross_entropy_readout", "tanh", 0.3)
    result = measure(case)
    for way in ("synchronous", "even-odd", "over-relaxed"):
        r = result[way]
        assert r["settled"] == len(case.x)
        assert (np.diff(r["largest"][:4]) < 0).all() and (r["median"] <= r["largest"]).all()
        assert r["own"][-1, -1] == pytest.approx(1, abs=1e-9) and r["exact"][-1, -1] > 0.999
        assert (np.diff(r["beta_exact"]) < 1e-9).all()  # the bias grows with beta
    assert result["even-odd"]["largest"][2] < result["synchronous"]["largest"][2]
    assert result["advice"]["beta"] >= 0.02


@pytest.mark.parametrize("omega", [1.0, 1.3])
def test_cosines_are_those_of_the_estimator(omega):
    case = nets.make("dense", "squared_error")
    name = "even-odd" if omega == 1 else "even-odd, omega 1.3"
    result = measure(case, ("even-odd", omega, 7, 3))[name]
    arguments = (case.network, case.parameters, case.x, case.target, symmetric(0.02))
    few, many = (
        estimate(*arguments, Phases(*steps, 0.0, "even-odd", omega)).gradient for steps in ((7, 3), (800, 800))
    )
    i, j = list(result["T1"]).index(7), list(result["T2"]).index(3)
    assert result["own"][i, j] == pytest.approx(cosine(few, many), abs=1e-9)


def test_the_advice_is_no_worse_and_no_dearer():
    result = measure(nets.make("deep dense", "squared_error"))
    advice, configured = result["advice"], result["configured"]
    assert advice["cosine"] >= configured["cosine"] and advice["T1"] + 2 * advice["T2"] <= 10 + 2 * 5
    assert advice["tolerance_cosine"] >= configured["cosine"]


def test_of_a_common_update_the_exact_gradient_has_the_sum_of_both_weights():
    """Weights that agree learn from what a shared one would."""
    case = nets.make_settling("deep dense", "squared_error", kind="own winners", tied=True)
    given = (case.network, case.parameters, case.x, case.target, ("synchronous", 1.0, 10, 5), 0.02, 800)
    result = check_settling(*given, common_contrast)
    assert result["synchronous"]["exact"][-1, -1] > 0.9999
