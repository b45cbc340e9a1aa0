"""The verdict of ``eqnp check`` on networks in which it is known what is the matter."""

from __future__ import annotations

import nets
import numpy as np
import pytest
from tolerances import ORACLE

from eqnp import dynamics
from eqnp.analysis.cures import find_cure
from eqnp.analysis.diagnostics import cosine
from eqnp.analysis.quality import GOOD, Setting, grade, make_stencil, word, worst_layer
from eqnp.analysis.steady import SettledPhases
from eqnp.analysis.verdict import judge
from eqnp.cli import verdicts
from eqnp.cli.verdicts import verdict_lines
from eqnp.contrasts import asymmetric_contrast, common_contrast, vector_field_contrast
from eqnp.estimators import estimate
from eqnp.stencils import one_sided, symmetric


def phases_of(case, steps=800, **options):
    return SettledPhases(case.network, case.parameters, case.x, case.target, steps, **options)


def verdict(case, T1=200, T2=100, beta=0.05, estimator="symmetric", **options):
    return judge(phases_of(case, **options), Setting(T1, T2, beta, estimator))


def curved():
    """A net without kinks, in which a nudge and an input take several steps from end to end."""
    return nets.make("deep dense", "squared_error", "tanh", 0.5, samples=6)


def kinked():
    """A net with pools and saturated units, where a large nudge switches some."""
    return nets.make("max", "squared_error", "half_hard_sigmoid", 1.5, samples=12)


def untied():
    return nets.make_settling("max", "squared_error", kind="own winners")


def test_all_settled_and_a_small_beta_is_good_and_needs_no_cure():
    result = verdict(curved())
    assert word(result["quality"]) == "good" and "cure" not in result
    assert result["samples"] == result["of"] == 6 and result["length"] == pytest.approx(1, abs=0.01)


WRONG = {
    "free": (curved, {"T1": 2, "estimator": "one-sided"}),
    "nudged": (curved, {"T2": 1}),
    "bias": (curved, {"beta": 0.8}),
    "switches": (kinked, {"beta": 1.0}),
    "field": (untied, {}),
}


WORDS = {
    "free": "free phase has not settled after T1 = 2 steps",
    "nudged": "nudged phases have not settled after T2 = 1 steps",
    "bias": "the bias at beta 0.8",
    "switches": "12 of 12 samples switch their activity pattern at beta 1",
    "field": "(vector field, mean angle",
}


@pytest.mark.parametrize("cause", WRONG)
def test_the_verdict_names_what_is_the_matter(cause):
    make, settings = WRONG[cause]
    result = verdict(make(), **settings)
    configured = {"T1": 200, "T2": 100, "beta": 0.05, "estimator": "symmetric"} | settings
    shown = {"settings": configured | {"steps": 800, "tolerance": 0.0, "common_update": False}, "angle": 90.0}
    lines = verdict_lines(shown | {"verdict": result}, ["eqnp", "train"])
    text = " ".join(" ".join(lines).split())
    assert f"verdict {word(result['quality'])}: cosine {result['cosine']:.3f}" in text and WORDS[cause] in text
    assert ("eqnp train --set" in text) == ("cure" in result) and ("common_update" in text) == (cause == "field")
    assert ("training.nudging=asymmetric: cosine 1.000" in text) == (cause == "field")
    assert result["cause"] == cause, result["parts"]
    assert word(result["quality"]) != "good"
    assert sum(result["parts"].values()) == pytest.approx(1 - result["cosine"])


@pytest.mark.parametrize(("cause", "key"), [("free", "T1"), ("nudged", "T2"), ("bias", "beta"), ("switches", "beta")])
def test_the_cure_changes_what_is_the_matter_and_holds(cause, key):
    make, settings = WRONG[cause]
    case, before = make(), {"T1": 200, "T2": 100, "beta": 0.05, "estimator": "symmetric"} | WRONG[cause][1]
    cure = verdict(case, **settings)["cure"]
    assert cure["enough"] and cure["quality"] >= GOOD
    assert [k for k in before if cure[k] != before[k]] == [key]
    after = verdict(case, **{k: cure[k] for k in before})
    assert after["cosine"] == pytest.approx(cure["cosine"]) and "cure" not in after


def test_the_cheapest_cure_wins_and_two_faults_need_two_cures():
    cure = verdict(curved(), T2=1, beta=0.8)["cure"]
    assert cure["T1"] == 200 and cure["T2"] > 1 and cure["beta"] < 0.8 and cure["enough"]
    assert len(cure["tried"]["cosine"]) == len(cure["tried"]["T1"]) > 2


def test_the_configured_estimate_is_the_one_of_training():
    case = curved()
    for way in (("synchronous", 1.0), ("even-odd", 1.3)):
        result = verdict(case, 4, 3, 0.5, "one-sided", way=way)
        arguments = (case.network, case.parameters, case.x, case.target, one_sided(0.5))
        found = estimate(*arguments, dynamics.Phases(4, 3, 0.0, *way))
        exact = phases_of(case, way=way).exact().gradient
        assert result["cosine"] == pytest.approx(cosine(found.gradient, exact), rel=ORACLE[np.float64])
        assert result["residual"] == found.free.residual


def test_of_a_random_sign_the_worse_one_is_judged():
    case = kinked()
    both = [verdict(case, 20, 10, beta, "one-sided")["cosine"] for beta in (1.0, -1.0)]
    result = verdict(case, 20, 10, 1.0, "random-sign")
    assert result["cosine"] == min(both) and result["sign"] == (1 if both[0] < both[1] else -1)
    assert make_stencil(Setting(1, 1, 1.0, "random-sign"), -1).points[0][0] == -1


def test_samples_that_never_settle_are_left_out_and_counted():
    case = curved()
    case.x[0] *= 1e3  # far from the others, so it takes more steps
    phases = phases_of(case, steps=800)
    slow = phases.free.moves.copy()
    phases.free.moves[0] = 1.0
    result = judge(phases, Setting(200, 100, 0.05, "symmetric"))
    assert result["of"] == 6 and result["samples"] == 5 and slow[0] < 1
    assert judge(phases_of(case, steps=2), Setting(2, 1, 0.05, "symmetric")) == {"of": 6, "samples": 0}


def test_states_that_grow_without_limit_end_soon_and_are_counted(monkeypatch):
    """A relu without an upper bound; a bounded unit never gets there, and a clip at 6 is the cure."""
    wide = {"shape": "deep dense", "loss": "squared_error", "gain": 8.0, "samples": 6}
    phases = phases_of(nets.make(activation="relu", **wide), steps=10**6)
    with np.errstate(all="ignore"):
        assert judge(phases, Setting(20, 10, 0.05, "symmetric")) == {"of": 6, "samples": 0, "growing": 6}
    assert phases.free.steps < 1000
    assert "growing" not in verdict(nets.make(activation="relu6", **wide))


def test_a_gradient_of_zero_has_no_verdict():
    case = nets.make("max")
    for name in case.parameters:
        if name.endswith("bias"):
            case.parameters[name] -= 10
    assert verdict(case)["unknown"] == "zero"


def test_a_vector_field_is_as_far_as_beta_to_zero_leaves_it():
    result = verdict(untied(), contrast=vector_field_contrast)
    assert result["limit"] < GOOD and result["cosine"] == pytest.approx(result["limit"], abs=0.01)
    assert "cure" not in result and result["stages"]["limit"]["cosine"] == result["limit"]
    tied = nets.make_settling("max", "squared_error", kind="own winners", tied=True)
    assert verdict(tied)["cause"] != "field"
    assert (
        result["asymmetric"] >= GOOD
        and result["asymmetric"] == verdict(untied(), contrast=asymmetric_contrast)["cosine"]
    )


def test_asymmetric_nudging_is_good_for_untied_weights():
    result = verdict(untied(), contrast=asymmetric_contrast)
    assert result["quality"] >= GOOD and result["limit"] == pytest.approx(1) and "asymmetric" not in result


def test_the_exact_gradient_of_a_net_that_is_damped_is_damped_too():
    case = nets.spinning()
    found = phases_of(case, way=("synchronous", 0.5)).exact()
    assert found.residual <= 1e-13


def test_where_both_weights_learn_from_one_gradient_the_exact_one_is_their_sum():
    own = phases_of(untied(), contrast=vector_field_contrast).exact().gradient
    exact = phases_of(untied(), contrast=common_contrast).exact().gradient
    for name in ("forward.1.weight", "backward.1.weight"):
        np.testing.assert_allclose(exact[name], own["forward.1.weight"] + own["backward.1.weight"], rtol=1e-9)


@pytest.mark.parametrize("beta", [0.05, 0.005])
def test_a_common_update_of_weights_that_agree_is_exact_as_beta_falls(beta):
    """Each weight learns from what a shared one would; the mean of both has a cosine of 0.95 with it."""
    case = nets.make_settling("deep dense", "squared_error", kind="own winners", tied=True)
    result = verdict(case, 800, 800, beta, contrast=common_contrast)
    assert result["cosine"] > 1 - beta**2 and result["length"] == pytest.approx(1, abs=beta)
    assert result["limit"] == pytest.approx(1, abs=1e-9)


def test_a_layer_that_is_much_worse_is_named():
    assert worst_layer({"forward.0.weight": 0.2, "readout.weight": 1.0}, 0.9) == "forward.0.weight"
    assert worst_layer({"forward.0.weight": 0.85, "readout.weight": 1.0}, 0.9) == ""


def test_a_cure_that_reaches_the_goal_no_way_is_the_best_one():
    phases = phases_of(kinked())
    exact = phases.exact().gradient
    cure = find_cure(phases, Setting(2, 1, 3.0, "symmetric"), 1, exact, -1.0, goal=2.0)
    assert not cure["enough"] and cure["quality"] == max(cure["tried"]["quality"])


def test_no_beta_is_tried_that_rounds_too_much_in_the_run():
    """A check computes in float64; the run that takes its advice may not."""
    phases = phases_of(kinked())
    exact = phases.exact().gradient
    cure = find_cure(phases, Setting(2, 1, 3.0, "symmetric"), 1, exact, -1.0, goal=2.0, least_beta=0.5)
    assert cure["tried"]["beta"].min() == 0.6 and cure["beta"] >= 0.5


def test_a_setting_that_nothing_betters_stays():
    phases, setting = phases_of(curved()), Setting(20, 10, 0.05, "symmetric")
    cure = find_cure(phases, setting, 1, phases.exact().gradient, now=1.5, goal=2.0)
    assert Setting(*(cure[key] for key in ("T1", "T2", "beta", "estimator"))) == setting and not cure["enough"]


def test_a_wrong_layer_is_not_hidden_by_a_larger_one_that_is_right():
    exact = {"forward.0.weight": np.array([0.01, 0.0]), "readout.weight": np.array([1.0, 0.0])}
    assert grade(exact, exact) == pytest.approx(1)
    wrong = exact | {"forward.0.weight": np.array([-0.01, 0.0])}
    assert cosine(wrong, exact) > 0.999 and word(grade(wrong, exact)) == "poor"
    aside = exact | {"forward.0.weight": np.array([0.01, 0.01])}  # 45 degrees
    assert word(grade(aside, exact)) == "usable"
    dead = exact | {"forward.1.weight": np.zeros(2)}
    assert grade(exact | {"forward.1.weight": np.ones(2) / 1e3}, dead) > 0.99


def test_float32_is_judged_with_the_tolerances_of_float32():
    case = curved()
    case.parameters = {name: p.astype(np.float32) for name, p in case.parameters.items()}
    case.x, case.target = case.x.astype(np.float32), case.target.astype(np.float32)
    result = verdict(case)
    assert result["samples"] == 6 and word(result["quality"]) == "good" and result["limit"] > GOOD


# ---- the phases


def test_samples_settle_one_by_one_to_where_all_settle_together():
    case = kinked()
    phases, together = phases_of(case, steps=3000), case.settle(3000)
    assert phases.settled().all() and phases.free.steps <= together.steps + 50
    for own, expected in zip(phases.free.states, together.states, strict=True):
        np.testing.assert_allclose(own, expected, atol=1e3 * ORACLE[np.float64])


def test_a_part_of_the_samples_has_the_gradients_of_a_batch_of_its_own():
    case = kinked()
    phases, which = phases_of(case), np.arange(12) % 3 == 0
    phases.nudged(0.1)
    part = phases.only(which)
    assert len(part) == 4
    for own, other in (
        (part.exact().gradient, phases.exact(which).gradient),
        (part.settled_estimate(symmetric(0.1)), phases.settled_estimate(symmetric(0.1), which)),
    ):
        assert cosine(own, other) == pytest.approx(1, abs=1e-9)


def test_steps_of_a_free_phase_go_on_from_fewer():
    case = curved()
    phases = phases_of(case)
    few, more = phases.free_after(3), phases.free_after(7)
    assert few.residual > more.residual
    direct = phases_of(case).free_after(7)
    for a, b in zip(more.states, direct.states, strict=True):
        np.testing.assert_array_equal(a, b)


def test_rounding_is_as_large_as_what_is_seen_and_grows_as_beta_falls():
    phases = phases_of(nets.make("deep dense", "cross_entropy_readout"))
    exact = phases.exact().gradient
    for beta in (1e-3, 1e-5):  # the bias of order beta^2 is far below rounding at the second
        level = phases.rounding(symmetric(beta))
        found = phases.settled_estimate(symmetric(beta))
        seen = np.sqrt(sum(float(((found[n] - g) ** 2).sum()) for n, g in exact.items()))
        if beta == 1e-5:
            assert level / 100 < seen < 10 * level
    assert phases.rounding(symmetric(1e-5)) == pytest.approx(100 * phases.rounding(symmetric(1e-3)), rel=0.01)


@pytest.mark.parametrize("estimator", ["symmetric", "one-sided"])
def test_where_only_the_outputs_learn_there_is_nothing_to_compare(estimator):
    """The readout's gradient is exact whatever the phases do, so its cosine says nothing of the rest."""
    case = nets.make("max", "cross_entropy_readout", "half_hard_sigmoid", 1.0, samples=4)
    for name, p in case.parameters.items():
        if name.startswith("forward") and name.endswith("bias"):
            p += 100
    result = verdict(case, estimator=estimator)
    assert result["unknown"] == "outputs" and "quality" not in result
    settings = {"steps": 800, "T1": 200, "T2": 100, "beta": 0.05}
    (text,) = verdict_lines({"verdict": result, "settings": settings, "angle": 0}, [])
    assert "only the outputs learn" in " ".join(text.split())


def test_a_weight_whose_exact_gradient_is_zero_is_named():
    case = curved()
    case.parameters["forward.0.weight"][...] = 0
    case.x[...] = 0  # so that the first weight has no gradient, but what is above it has
    result = verdict(case)
    assert result["silent"] == "forward.0.weight" and "forward.0.weight" not in result["layers"]


def test_a_tolerance_is_the_cause_and_leaving_it_out_the_cure():
    """No other key of the cure may change if this one is enough."""
    result = judge(phases_of(curved()), Setting(200, 100, 0.05, "symmetric"), tolerance=0.3)
    assert result["free_steps"] < 200 and result["quality"] < GOOD
    cure = result["cure"]
    assert (cure["T1"], cure["T2"], cure["beta"], cure["tolerance"]) == (200, 100, 0.05, 0.0) and cure["enough"]
    names = ("T1", "T2", "beta", "estimator")
    settings = dict(zip(names, (200, 100, 0.05, "symmetric"), strict=True)) | {"tolerance": 0.3, "common_update": False}
    lines = verdict_lines({"verdict": result, "settings": settings, "angle": 0}, ["eqnp", "train"])
    text = " ".join(" ".join(lines).split())
    assert "cure tolerance 0: cosine" in text and "eqnp train --set dynamics.tolerance=0 " in text
    assert result["cause"] in ("free", "nudged")
    if result["cause"] == "free":
        assert f"tolerance = 0.3 ended the free phase after {result['free_steps']} of T1 = 200 steps" in text


def test_samples_that_only_do_not_settle_switch_nothing():
    found = {"restless": 3, "switching": 3, "samples": 5}
    assert verdicts._restless(found, "1.5") == "3 of 5 samples do not settle at beta 1.5"
    found["switching"] = 4
    assert "4 of 5 samples switch their activity pattern at beta 1.5 (3 of them" in verdicts._restless(found, "1.5")


@pytest.mark.parametrize("common", [True, False])
def test_asymmetric_nudging_is_named_with_the_key_that_excludes_it(common):
    result = verdict(untied(), contrast=common_contrast if common else vector_field_contrast)
    assert result["cause"] == "field"
    settings = {"T1": 200, "T2": 100, "beta": 0.05, "estimator": "symmetric", "tolerance": 0.0, "steps": 800}
    result = {name: value for name, value in result.items() if name != "cure"}  # as if nothing was tried
    lines = verdict_lines({"verdict": result, "settings": settings | {"common_update": common}, "angle": 80.0}, [])
    text = " ".join(" ".join(lines).split())
    assert ("asymmetric with training.common_update=false: cosine" in text) == common
    assert ("training.common_update=true with a weight decay" in text) != common
