"""What eqnp check measures, by hand and on networks where it is known."""

from __future__ import annotations

import math

import nets
import numpy as np
import pytest

from eqnp.analysis.diagnostics import Agreement
from eqnp.analysis.steady import SettledPhases
from eqnp.analysis.theorem import check_bias, check_steps, compare_kinds
from eqnp.contrasts import asymmetric_contrast, common_contrast, vector_field_contrast


def steps_of(case, beta, T1=80, T2=6):
    return check_steps(case.network, case.parameters, case.x, case.target, T1, T2, beta)


def bias_of(case, beta=0.1, contrast=None):
    return check_bias(case.network, case.parameters, case.x, case.target, beta, 500, contrast)


def test_agreement_by_hand():
    agreement = Agreement()
    agreement.add({"w": np.array([1.0, -2.0, 0.0])}, {"w": np.array([1.0, 2.0, 3.0])})
    agreement.add({"w": np.array([1.0, 1.0, 1.0])}, {"w": np.array([1.0, 1.0, 0.0])})
    assert agreement.relative_error("w") == pytest.approx(math.sqrt((16 + 9 + 1) / (14 + 2)))
    assert agreement.sign_disagreement("w") == pytest.approx(1 / 4)  # zeros have no sign
    np.testing.assert_allclose(agreement.errors("w"), [5, 1])
    np.testing.assert_allclose(agreement.sizes("w"), [math.sqrt(14), math.sqrt(2)])


@pytest.mark.parametrize(("shape", "loss"), nets.NETS)
def test_steps_agree_and_the_symmetric_ones_more(shape, loss):
    result = steps_of(nets.make(shape, loss), 0.05)
    assert result["residual"] < 1e-12
    for name, symmetric in result["symmetric"].items():
        one_sided, other = result["one-sided"][name], result["one-sided, -beta"][name]
        assert symmetric["relative_error"] < 0.02, name
        assert symmetric["distance"] <= 0.5 * max(one_sided["distance"], other["distance"], 1e-9), name
        assert len(symmetric["errors"]) == len(symmetric["sizes"]) == 6
        curves = [result[stencil][name]["cumulative"] for stencil in ("one-sided", "one-sided, -beta", "symmetric")]
        np.testing.assert_allclose((curves[0] + curves[1]) / 2, curves[2], atol=1e-9)
        assert result["bptt"][name]["cumulative"][[0, -1]] == pytest.approx([0, 1])


def test_the_readout_learns_at_the_first_step():
    result = steps_of(nets.make("max", "cross_entropy_readout"), 1e-3)
    for stencil in ("bptt", "one-sided", "symmetric"):
        assert result[stencil]["readout.weight"]["cumulative"][1:] == pytest.approx([1] * 6, abs=2e-3)


@pytest.mark.parametrize("loss", nets.LOSSES)
def test_slopes_are_the_orders(loss):
    result = bias_of(nets.make("max", loss))
    assert result["samples"] == result["of"] == 3 and result["residual"] < 1e-14
    for name in ("one-sided", "symmetric"):
        assert result[name]["slope"] == pytest.approx(result[name]["order"], abs=0.06)
    assert not result["four-point"]["slope"] < 3.5  # or below rounding everywhere


def test_a_gradient_of_zero_has_no_bias():
    """With all units at an end of their range nothing changes the loss."""
    case = nets.make("max")
    for name in case.parameters:
        if name.endswith("bias"):
            case.parameters[name] -= 10
    assert bias_of(case) == {"samples": 0, "of": 3, "exact": 0.0}


def test_samples_that_switch_do_not_count_and_beta_shrinks_until_enough_do():
    case = nets.make("max", activation="half_hard_sigmoid", gain=1.5, samples=12)
    result = bias_of(case, beta=2.0)
    assert 3 <= result["samples"] < 12 and result["betas"][0] < 2.0
    assert result["one-sided"]["slope"] == pytest.approx(1, abs=0.1)
    assert result["symmetric"]["slope"] == pytest.approx(2, abs=0.1)


def test_untied_weights_have_a_bias_that_stays_and_tied_ones_have_not():
    untied = bias_of(nets.make("max", kind="own winners"), contrast=vector_field_contrast)
    tied = bias_of(nets.make("max", kind="own winners", tied=True), contrast=vector_field_contrast)
    assert abs(untied["symmetric"]["slope"]) < 0.1 and untied["symmetric"]["bias"].min() > 1e-3
    assert tied["symmetric"]["slope"] == pytest.approx(2, abs=0.1)


def test_a_common_update_of_weights_that_agree_has_the_orders_and_the_steps_of_a_shared_weight():
    case = nets.make_settling("deep dense", "squared_error", kind="own winners", tied=True)
    result = bias_of(case, contrast=common_contrast)
    for name, order in (("one-sided", 1), ("symmetric", 2)):
        assert result[name]["slope"] == pytest.approx(order, abs=0.1), name
    given = (case.network, case.parameters, case.x, case.target, 200, 6, 0.01)
    for name, each in check_steps(*given, common_contrast)["symmetric"].items():
        assert each["relative_error"] < 1e-3 and each["distance"] < 1e-3, name


def test_the_kinds_of_nudging_of_untied_weights_side_by_side():
    """The bias of plain nudging and of a common update stays; that of asymmetric nudging falls with its order."""
    case = nets.make_settling("deep dense", "squared_error", kind="own winners")
    kinds = compare_kinds(SettledPhases(case.network, case.parameters, case.x, case.target, 500), 0.1)
    for kind in ("plain", "common"):
        assert abs(kinds[kind]["symmetric"]["slope"]) < 0.1 and kinds[kind]["symmetric"]["bias"].min() > 0.01
    for name, order in (("one-sided", 1), ("symmetric", 2), ("four-point", 4)):
        assert kinds["asymmetric"][name]["slope"] == pytest.approx(order, abs=0.1), name
    assert kinds["asymmetric"]["samples"] == 3


def test_kinds_are_not_compared_where_the_gradient_is_zero():
    case = nets.make("max", kind="own winners")
    for name in case.parameters:
        if name.endswith("bias"):
            case.parameters[name] -= 10
    assert compare_kinds(SettledPhases(case.network, case.parameters, case.x, case.target, 500), 0.1) == {}


def test_steps_of_asymmetric_nudging_agree_for_untied_weights():
    case = nets.make_settling("max", "squared_error", kind="own winners")
    given = (case.network, case.parameters, case.x, case.target, 80, 6, 0.05)
    plain, own = (
        check_steps(*given, contrast)["symmetric"] for contrast in (vector_field_contrast, asymmetric_contrast)
    )
    for name, each in own.items():
        assert each["relative_error"] < 0.02 and each["distance"] < 0.01, name
    assert plain["backward.1.weight"]["relative_error"] > 0.1
