"""A classifier for scikit-learn that learns by Equilibrium Propagation.

It needs the package scikit-learn: ``pip install scikit-learn``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.preprocessing import LabelEncoder
    from sklearn.utils import check_random_state, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(f"eqnp.sklearn needs scikit-learn 1.6 or later ({error}): pip install scikit-learn") from error

from eqnp.api.functions import configure
from eqnp.api.run import settled
from eqnp.backends.backend import get_backend, to_host
from eqnp.backends.sharding import thread_map
from eqnp.data import AsGiven, Batches
from eqnp.errors import memory_errors
from eqnp.inputs import Shape, require_count
from eqnp.learner import Learner
from eqnp.losses import softmax
from eqnp.prepared import PreparedWeights
from eqnp.runs.config import Config, Dynamics, Model, Optimizer, Training
from eqnp.runs.experiment import make_learner, with_threads
from eqnp.training import State, initial_state, next_epoch, require_finite, train_epoch

# What a classifier without a preset does: features of any scale suit tanh and Adam.
_OWN = Config(
    name="classifier",
    model=Model(activation="tanh", loss="cross_entropy_readout"),
    dynamics=Dynamics(T1=20, T2=8, beta=0.2),
    training=Training(epochs=40, batch_size=32, dtype="float64"),
    optimizer=Optimizer(name="adam", rates=0.005),
)

_WITHOUT_EFFECT = ("training.patience", "training.max_minutes", "training.check_every")


class EquilibriumClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier that learns by Equilibrium Propagation.

    Args:
        hidden: units of the dense hidden layers, from the input up.
        layers: layers as in a configuration, ``[{"conv": 8, "kernel": 3, "pool": "max"}, {"dense": 10}]``, in place of
            ``hidden``. The last one gets as many units as there are classes.
        preset: the name of a preset or the path of a TOML file, from which the layers and all settings come.
        image_shape: (H, W, C) of the image in every row of X, which convolutions need; None: features.
        epochs: passes over the data by ``fit``; None: 40, or the preset's. ``partial_fit`` does one.
        batch_size: samples per update; None: 32, or the preset's.
        learning_rate: None: 0.005, or the preset's.
        beta: strength of the nudging; None: 0.2, or the preset's.
        settings: further keys of a configuration with their values, ``{"dynamics.T1": 30}``; not those of ``data``
            and of when a run ends (``training.patience`` and the like), which have no effect here, in a preset neither.
        backend: ``numpy``, ``cupy`` or ``auto``.
        random_state: seed of weights and of the order of samples.

    X is (N, D): floats or integers, which are used unchanged, or uint8 pixels, which are divided by 255. After
    ``fit`` there are ``classes_``, ``n_features_in_``, ``n_iter_`` (epochs done) and ``parameters_`` (the weights by
    name).

    Raises:
        ValueError: X or y are not such as scikit-learn's classifiers take, or do not fit ``image_shape``.
        ConfigurationError: a layer, preset or setting is wrong.
        DivergedError: the loss or a weight is no longer finite.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (128,),
        *,
        layers: Sequence[Mapping[str, Any]] | None = None,
        preset: str | None = None,
        image_shape: Shape | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        beta: float | None = None,
        settings: Mapping[str, Any] | None = None,
        backend: str = "numpy",
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.layers = layers
        self.preset = preset
        self.image_shape = image_shape
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.beta = beta
        self.settings = settings
        self.backend = backend
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> EquilibriumClassifier:
        """Learn from X (N, D) and the classes y (N,), from the beginning."""
        X, y = self._checked(X, y, reset=True)
        self._begin(X, np.unique(y))
        return self._learn(X, y, self._config.training.epochs)

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> EquilibriumClassifier:
        """Learn one epoch more. The first call needs all ``classes``, unless y has them all."""
        first = not hasattr(self, "_state")
        X, y = self._checked(X, y, reset=first)
        if first:
            self._begin(X, np.unique(y if classes is None else classes))
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes={classes!r} are not those of the first call, {self.classes_!r}")
        return self._learn(X, y, 1)

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of every row: (N, D) -> (N,)."""
        o = self._outputs(X)
        classes: np.ndarray = self.classes_[o.argmax(axis=1)]
        return classes

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of every class: (N, D) -> (N, classes). By softmax, or of squared error by shares."""
        o = self._outputs(X)
        squared = self._config.model.loss == "squared_error"
        shares: np.ndarray = np.maximum(o, 0) + np.finfo(o.dtype).tiny if squared else softmax(o)
        shares /= shares.sum(axis=1, keepdims=True)
        return shares

    # ---- inside

    def _begin(self, X: np.ndarray, classes: np.ndarray) -> None:
        """Take in the classes, and draw the weights."""
        if len(classes) < 2:
            raise ValueError(f"EquilibriumClassifier needs at least 2 classes; y has 1 class, {classes[0]!r}")
        self.classes_ = classes
        self._pixels = X.dtype == np.uint8
        self._config = self._configuration(len(classes))
        learner = self._learner(len(X))
        self._take(initial_state(learner, self._config.model.gain, self._config.training.dtype))

    def _learn(self, X: np.ndarray, y: np.ndarray, epochs: int) -> EquilibriumClassifier:
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"y has the classes {unknown.tolist()!r}, which are not among {self.classes_.tolist()!r}")
        labels = LabelEncoder().fit(self.classes_).transform(y).astype(np.int64)
        learner, batches, state = self._learner(len(X)), self._batches(X, labels, in_order=False), self._state
        if not max(learner.update.rates(state.epoch + 1 / 2).values()):
            raise ValueError(
                f"after {state.epoch} epochs the learning rate is 0, since its schedule has ended; give "
                'settings={"optimizer.schedule": "constant"}, or an optimizer.minimum_rate'
            )
        with memory_errors(), np.errstate(all="ignore"), thread_map(learner.workers, fixed=bool(learner.cuts)) as run:
            for _ in range(epochs):
                state = deque(train_epoch(learner, state, batches, run), maxlen=1).pop()  # after the last batch
                require_finite(learner, state)
                state = next_epoch(state)
        self._take(state)
        return self

    def _take(self, state: State) -> None:
        self._state = state
        self.parameters_ = state.evaluated
        self.n_iter_ = state.epoch

    def _outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        learner, batches = self._learner(0), self._batches(X, np.zeros(len(X), np.int64), in_order=True)
        weights = PreparedWeights(learner.network, self.parameters_)
        parts = []
        for index in range(batches.count):
            states = settled(learner, weights, batches.batch(0, index)[0])
            parts.append(to_host(learner.network.outputs(self.parameters_, states)))
        return np.concatenate(parts)

    def _checked(self, X: Any, *y: Any, reset: bool) -> Any:
        """Return X, and y if it is given, as scikit-learn checks them: X floats, or uint8."""
        pixels = getattr(X, "dtype", None) == np.uint8
        X = validate_data(self, X, reset=reset, dtype=np.uint8 if pixels else np.float64)
        if not reset and pixels != self._pixels:
            fitted = "uint8 pixels" if self._pixels else "numbers that are not uint8"
            raise ValueError(f"X is {X.dtype}, but the classifier was fitted on {fitted}")
        if self.image_shape is not None and X.shape[1] != np.prod(self.image_shape):
            raise ValueError(f"X has {X.shape[1]} features: image_shape={self.image_shape!r} does not fit")
        if not y:
            return X
        if y[0] is None:
            raise ValueError("requires y to be passed, but the target y is None")
        classes = column_or_1d(y[0], warn=True)
        check_classification_targets(classes)
        if len(classes) != len(X):
            raise ValueError(f"X has {len(X)} samples and y {len(classes)}: inconsistent numbers of samples")
        return X, classes

    def _batches(self, X: np.ndarray, labels: np.ndarray, in_order: bool) -> Batches:
        training = self._config.training
        x = X.reshape(len(X), *(self.image_shape or X.shape[1:]))
        x = x.astype(training.dtype) / 255 if self._pixels else x
        return Batches(
            x,
            labels,
            training.batch_size,
            normalisation=AsGiven(),
            seed=training.seed,
            dtype=training.dtype,
            in_order=in_order,
        )

    def _learner(self, samples: int) -> Learner:
        shape = tuple(self.image_shape or (self.n_features_in_,))
        return make_learner(self._config, shape, len(self.classes_), get_backend(self.backend), samples)

    def _configuration(self, classes: int) -> Config:
        """Return the configuration that the arguments describe, for so many classes."""
        if self.preset is not None and self.layers is not None:
            raise ValueError("give layers or a preset, not both")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        given = {
            "training.epochs": self.epochs,
            "training.batch_size": self.batch_size,
            "optimizer.rates": self.learning_rate,
            "dynamics.beta": self.beta,
        }
        for key in self.settings or {}:
            if key.startswith("data.") or key in _WITHOUT_EFFECT:
                raise ValueError(f"settings: {key} has no effect here; X and y are the data, and fit does all epochs")
        keys: dict[str, Any] = {"training.seed": seed} | {
            key: value for key, value in given.items() if value is not None
        }
        if self.preset is None:
            keys["model.layers"] = self.layers or [*({"dense": units} for units in self._hidden()), {"dense": classes}]
        config = configure(self.preset or _OWN, keys | dict(self.settings or {}))
        *below, last = config.model.layers
        model = replace(config.model, layers=(*below, replace(last, dense=classes)))
        return with_threads(replace(config, model=model))

    def _hidden(self) -> list[int]:
        hidden = [self.hidden] if isinstance(self.hidden, int) else list(self.hidden)
        if not hidden:
            raise ValueError("hidden=(): a readout stands on a layer of neurons; give the units of one, hidden=(128,)")
        for units in hidden:
            require_count("hidden", units, 1)
        return [int(units) for units in hidden]
