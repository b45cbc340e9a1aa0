"""Runs that are interrupted at points anywhere, in chains, for every way of training: each ends as if it never was.

Compared bitwise are both checkpoints with weights, optimiser and progress, metrics.csv and test.csv; only the seconds
may differ.
"""

from __future__ import annotations

import csv
import os
import signal

import numpy as np
import pytest
from commands import overrides, run, train_small

from eqnp import training
from eqnp.api import signals
from eqnp.api import training as api_training
from eqnp.runs import checkpoint

ALGORITHMS = {
    "one-sided": ["training.estimator=one-sided"],
    "random sign": ["training.estimator=random-sign"],
    "symmetric": ["training.estimator=symmetric", "dynamics.schedule=even-odd", "dynamics.omega=1.5"],
    "four-point": ["training.estimator=four-point", "model.loss=squared_error"],
    "circle": ["training.estimator=circle", "model.activation=tanh"],
    "vector field": ["model.kind=vector-field"],
    "KP-VF": ["model.kind=vector-field", "training.common_update=true", "optimizer.weight_decay=1e-3"],
    "asymmetric": ["model.kind=vector-field", "training.nudging=asymmetric"],
    "bptt": ["training.algorithm=bptt"],
    "bptt of KP-VF": ["training.algorithm=bptt", "model.kind=vector-field", "training.common_update=true"],
}
OPTIMISERS = {
    "sgd": ["optimizer.momentum=0"],
    "momentum": ["optimizer.momentum=0.9"],
    "nesterov": ["optimizer.momentum=0.9", "optimizer.nesterov=true"],
    "adam": ["optimizer.name=adam", "optimizer.momentum=0", "optimizer.rates=0.01"],
    "rates by layer": ["optimizer.momentum=0.5", "optimizer.rates=[0.1, 0.05, 0.02]"],
}
FURTHER = {
    "cosine": ["optimizer.schedule=cosine", "optimizer.minimum_rate=0.001"],
    "constant rate": ["optimizer.schedule=constant"],
    "dropout": ["model.layers.0.keep=0.8", "model.layers.1.keep=0.7"],
    "validation": ["data.validation=20"],
    "patience": ["training.patience=1", "data.validation=0.25"],
    "clipped norm": ["optimizer.clip_norm=0.05"],
    "augmented": ["data.flip=true", "data.crop=2"],
    "float64": ["training.dtype=float64"],
    "checked": ["training.check_every=2"],
}
PLACES = ("batch", "evaluation", "rename")
MEANS = ("signal", "two signals", "memory", "kill")
EPOCHS = 3
FIXED = 10  # points that are always tried, one for each algorithm


class Killed(BaseException):
    """What no handler of eqnp takes for an error: the process is gone."""


class Moments:
    """Counts the batches, evaluated batches and renamed files of a run, and ends it at one of them."""

    def __init__(self, monkeypatch, moment=None, means=""):
        self.places, self.moment, self.means, self.dead = [], moment, means, False
        self.train_batch, self.evaluate, self.replace = training.train_batch, api_training.evaluate, os.replace
        monkeypatch.setattr(training, "train_batch", self._train_batch)
        monkeypatch.setattr(api_training, "evaluate", self._evaluate)
        monkeypatch.setattr(os, "replace", self._rename)
        monkeypatch.setattr(api_training, "batch_that_fits", lambda *arguments: 1)
        monkeypatch.setattr(signals, "SAME_SECONDS", -1.0)  # a second signal is one of its own

    def _pass(self, place):
        if self.dead:
            raise Killed
        self.places.append(place)
        if self.moment != len(self.places) - 1:
            return
        if self.means == "memory" and place != "rename":
            raise MemoryError
        if self.means == "kill" or signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # a signal kills, too
            self.dead = True
            raise Killed
        for _ in range(2 if self.means == "two signals" else 1):
            signal.raise_signal(signal.SIGTERM)

    def _train_batch(self, *arguments, **more):
        self._pass("batch")
        return self.train_batch(*arguments, **more)

    def _evaluate(self, learner, parameters, batches, run_shards, progress):
        def passing(index):
            self._pass("evaluation")
            progress(index)

        return self.evaluate(learner, parameters, batches, run_shards, passing)

    def _rename(self, source, target):
        self._pass("rename")
        self.replace(source, target)


def settings_of(number):
    """Return settings: algorithms and optimisers in turn, so that all pairs come, and two or three further ones."""
    generator = np.random.default_rng([number, 1])
    names = list(FURTHER)
    further = {names[number % len(names)], *generator.choice(names, 2, replace=False)} - {
        "cosine" if number % 2 else "constant rate"
    }
    settings = [
        "model.layers=[{conv=3,kernel=5,stride=2,pool='average'},{dense=12},{dense=10}]",
        *(f"training.epochs={EPOCHS}", "training.batch_size=16", "training.threads=1"),
        *list(ALGORITHMS.values())[number % len(ALGORITHMS)],
        *list(OPTIMISERS.values())[(number + number // len(ALGORITHMS)) % len(OPTIMISERS)],
    ]
    for name in sorted(further):
        settings += FURTHER[name]
    if list(ALGORITHMS)[number % len(ALGORITHMS)] == "asymmetric" and number % 20 < 10:
        settings.append("model.layers.0.pool='max'")
    return overrides(*settings)


def content(path):
    """Return what a checkpoint holds, as bytes by name, but for the seconds."""
    found = {}

    def walk(tree, where):
        for key, value in tree.items():
            if isinstance(value, dict):
                walk(value, f"{where}{key}.")
            elif key != "seconds":
                found[where + key] = (value.dtype, value.tobytes()) if isinstance(value, np.ndarray) else value

    walk(checkpoint.load(path, kind="training"), "")
    return found


def table(path):
    if not path.exists():
        return None
    return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(path.read_text().splitlines())]


def attempt(capsys, folder, settings):
    """Begin or continue a run; return the exit code, and that of a kill as -9."""
    try:
        if (folder / "config.toml").exists():
            return run(capsys, "train", "--quiet", "--resume", folder).code
        return train_small(capsys, folder, *settings, "--quiet").code
    except Killed:
        return -9


def interrupted(capsys, tmp_path, monkeypatch, number):
    """Compare a run that is interrupted again and again with one that never was; return where it was interrupted."""
    settings, generator = settings_of(number), np.random.default_rng([number, 2])
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with monkeypatch.context() as patched:
        places = Moments(patched).places
        assert attempt(capsys, whole, settings) == 0
    first, hit = PLACES[number % len(PLACES)], []
    for link in range(4):  # the chain
        of_kind = [n for n, place in enumerate(places) if link or place == first]
        of_kind = of_kind if link else of_kind[: len(of_kind) * 2 // 3]  # a signal at the end finds the run done
        moment, means = int(generator.choice(of_kind)), MEANS[(number + link) % len(MEANS)]
        with monkeypatch.context() as patched:
            moments = Moments(patched, moment >> link, means)  # less is left each time
            code = attempt(capsys, parts, settings)
        expected = {"signal": (143, -9, 0), "two signals": (143, -9, 0), "memory": (7, 143, -9, 0), "kill": (-9, 0)}[
            means
        ]
        assert code in expected, (number, link, code)
        if code:
            hit.append(moments.places[moment >> link])
    assert attempt(capsys, parts, settings) == 0
    for name in ("last.h5", "best.h5"):
        assert content(parts / name) == content(whole / name), (number, name)
    for name in ("metrics.csv", "test.csv"):
        assert table(parts / name) == table(whole / name), (number, name)
    assert not list(parts.glob(".eqnp-*"))
    return hit


@pytest.mark.parametrize(
    "number", [*range(FIXED), *(pytest.param(n, marks=pytest.mark.slow) for n in range(FIXED, 60))]
)
def test_a_run_interrupted_at_any_points_is_the_uninterrupted_one(capsys, tmp_path, monkeypatch, number):
    hit = interrupted(capsys, tmp_path, monkeypatch, number)
    assert PLACES[number % len(PLACES)] in hit


def test_the_points_cover_every_algorithm_with_every_optimiser():
    pairs = {(n % 10, (n + n // 10) % 5) for n in range(60)}
    assert len(pairs) == len(ALGORITHMS) * len(OPTIMISERS)
    used = {word for n in range(60) for word in settings_of(n)}
    assert {
        setting for group in (ALGORITHMS, OPTIMISERS, FURTHER) for each in group.values() for setting in each
    } <= used
