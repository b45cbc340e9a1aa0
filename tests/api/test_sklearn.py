"""The classifier for scikit-learn: its own checks, pipelines and searches, images, and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import eqnp

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from eqnp.errors import ConfigurationError
from eqnp.sklearn import EquilibriumClassifier

pytestmark = pytest.mark.filterwarnings("default::RuntimeWarning:sklearn")  # its own, of casts in its checks
ALLOWED = {"check_array_api_input", "check_classifier_data_not_an_array"}  # want SCIPY_ARRAY_API and pandas


@parametrize_with_checks([EquilibriumClassifier(hidden=(32,), epochs=20)])
def test_what_scikit_learn_asks_of_a_classifier(estimator, check):
    name = getattr(check, "func", check).__name__
    try:
        check(estimator)
    except pytest.skip.Exception:
        raise
    except Exception as error:
        if type(error).__name__ != "SkipTest" or name not in ALLOWED:
            raise
        pytest.skip(str(error))


def blobs(samples=90, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, samples)
    return rng.normal(size=(samples, 4)) + 3 * np.eye(3, 4)[y], np.array(["ant", "bee", "cat"])[y]


QUICK = {"hidden": (12,), "epochs": 15, "random_state": 0}


def test_it_learns_in_a_pipeline_a_cross_validation_and_a_search():
    X, y = blobs()
    model = make_pipeline(StandardScaler(), EquilibriumClassifier(**QUICK))
    assert cross_val_score(model, X, y, cv=3).min() > 0.8
    search = GridSearchCV(EquilibriumClassifier(**QUICK), {"hidden": [(4,), (8, 6)], "beta": [0.1, 0.3]}, cv=2)
    assert search.fit(X, y).best_score_ > 0.8 and set(search.predict(X)) == {"ant", "bee", "cat"}


def test_equal_seeds_give_equal_classifiers_and_a_part_is_an_epoch():
    X, y = blobs()
    fitted = EquilibriumClassifier(**QUICK).fit(X, y)
    parts = EquilibriumClassifier(**QUICK)
    for _ in range(QUICK["epochs"]):
        parts.partial_fit(X, y, classes=["ant", "bee", "cat"])
    assert parts.n_iter_ == fitted.n_iter_ == 15
    assert all((parts.parameters_[name] == w).all() for name, w in fitted.parameters_.items())
    assert (fitted.predict_proba(X) == parts.predict_proba(X)).all()
    np.testing.assert_allclose(fitted.predict_proba(X).sum(axis=1), 1)
    assert fitted.score(X, y) > 0.9


@pytest.mark.parametrize(
    "model",
    [
        {"layers": [{"conv": 3, "kernel": 3, "pool": "max"}, {"dense": 9}]},
        {"preset": "digits", "settings": {"model.layers": [{"conv": 3, "kernel": 3}, {"dense": 2}]}},
        {"layers": [{"dense": 6}, {"dense": 2}], "settings": {"model.loss": "squared_error"}},
    ],
)
def test_images(model):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    X = (rng.integers(0, 80, (60, 36)) + 150 * y[:, None]).astype(np.uint8)
    model |= {"image_shape": (6, 6, 1), "epochs": 20, "batch_size": 10, "random_state": 1}
    found = EquilibriumClassifier(**model).fit(X, y)
    assert found.score(X, y) > 0.9 and found.predict_proba(X).shape == (60, 2)
    with pytest.raises(ValueError, match="fitted on uint8 pixels"):
        found.predict(X / 255)


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ({"hidden": ()}, ValueError, "hidden"),
        ({"hidden": (0,)}, ValueError, "hidden = 0"),
        ({"preset": "digit"}, ConfigurationError, "digits"),
        ({"preset": "digits", "layers": [{"dense": 3}]}, ValueError, "not both"),
        ({"image_shape": (5, 5, 1)}, ValueError, "image_shape"),
        ({"settings": {"dynamics.T3": 1}}, ConfigurationError, "T3"),
        ({"epochs": -1}, ConfigurationError, "training.epochs"),
    ],
)
def test_wrong_arguments(arguments, error, word):
    with pytest.raises(error, match=word):
        EquilibriumClassifier(**arguments).fit(*blobs())


def test_classes_that_were_not_named_at_first():
    X, y = blobs()
    model = EquilibriumClassifier(**QUICK).partial_fit(X, y)
    with pytest.raises(ValueError, match="dog"):
        model.partial_fit(X, np.where(y == "ant", "dog", y))
    with pytest.raises(ValueError, match="first call"):
        model.partial_fit(X, y, classes=["ant", "dog"])


def test_without_scikit_learn_the_cure_is_named():
    code = "import sys; sys.modules['sklearn'] = None; import eqnp; import eqnp.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: eqnp.sklearn needs scikit-learn" in done.stderr and "pip install scikit-learn" in done.stderr
    assert eqnp.__all__


def test_a_schedule_that_has_ended_is_no_training():
    x, y = np.eye(4), np.arange(4)
    made = EquilibriumClassifier(epochs=2, settings={"optimizer.schedule": "cosine"}).fit(x, y)
    with pytest.raises(ValueError, match="after 2 epochs the learning rate is 0"):
        made.partial_fit(x, y)


@pytest.mark.parametrize("key", ["data.flip", "training.patience"])
def test_settings_without_effect_are_refused(key):
    with pytest.raises(ValueError, match=f"{key} has no effect"):
        EquilibriumClassifier(settings={key: 1}).fit(np.eye(4), np.arange(4))
