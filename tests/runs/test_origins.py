"""Every key can be set in every way; the order is command line, environment, file, preset, default."""

from __future__ import annotations

import random
import string
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import pytest
from commands import assert_fails, run, train_small

import eqnp
from eqnp.errors import ConfigurationError
from eqnp.runs import configfile, presets
from eqnp.runs.changes import flat
from eqnp.runs.config import Config
from eqnp.runs.configfile import load
from eqnp.runs.keys import table_of_list
from eqnp.runs.origins import origins
from eqnp.runs.overrides import toml_value
from eqnp.runs.template import commented
from eqnp.runs.variables import settings_in, variable_of

VALUES = {
    "dynamics.points": [2, 4, 6],
    "name": ["from a file", "2024-01-01", 'a "quoted" word'],
    "data.name": ["mnist", "cifar10", "fashion-mnist"],
    "data.shape": [[4], [5], [6]],
    "model.layers": [[{"dense": n}] for n in (3, 4, 5)],
    "model.layers.0.skips": [[{"source": n}] for n in (0, 1, 2)],
    "model.layers.0.kernel": [[2, 3], [3, 2], [1, 1]],
    "optimizer.rates": [0.2, [0.1, 0.2, 0.3], 0.3],
    "optimizer.weight_decay": [0.2, [0.1, 0.2, 0.3], 0.3],
}
BELOW_ONE = ("keep", "validation", "momentum", "beta1", "beta2", "average", "label_smoothing")


def all_keys(kind=Config, prefix=""):
    """Yield (dotted name, field) of every key; those of a list of tables for its number 0."""
    hints = get_type_hints(kind)
    for each in fields(kind):
        if is_dataclass(hints[each.name]):
            yield from all_keys(hints[each.name], f"{prefix}{each.name}.")
            continue
        yield prefix + each.name, each
        if (inside := table_of_list(hints[each.name])) is not None:
            yield from all_keys(inside, f"{prefix}{each.name}.0.")


KEYS = dict(all_keys())


def three_values(key):
    """Return three values of a key, for a file, a variable and the command line; the last two differ."""
    field = KEYS[key]
    if key in VALUES:
        return VALUES[key]
    if field.metadata["choices"]:
        choices = [*field.metadata["choices"]]
        return [choices[-1], choices[0], choices[-1]]
    kind = type(field.default)
    if kind is tuple:
        return [["a", "b"], ["c", "d"], ["e", "f"]] if "str" in field.type else [[2, 3], [3, 2], [1, 1]]
    if kind is bool:
        return [True, False, True]
    if kind is str:
        return ["from a file", "2024-01-01", 'a "quoted" \\ word']
    if kind is float and field.name in BELOW_ONE:
        return [0.5, 0.25, 0.75]
    return [kind(1), kind(2), kind(3)] if field.name != "omega" else [1.25, 1.5, 1.75]


def as_file(key, value):
    """Return a file that sets one key of the default preset."""
    *table, name = key.split(".")
    if "0" in table:  # of the first layer, or of a list in it
        layer = nested(key.split(".")[3:], value)
        layer = ({} if name == "dense" and len(table) == 3 else {"conv": 2}) | layer
        if "skips" in table:  # which comes from somewhere
            layer["skips"] = [{"source": 0} | each for each in layer["skips"]]
        return f'base = "digits"\n[model]\nlayers = [{toml_value(layer)}, {{ dense = 9 }}, {{ dense = 10 }}]\n'
    heading = f"[{'.'.join(table)}]\n" if table else ""
    return f'base = "digits"\n{heading}{name} = {toml_value(value)}\n'


def nested(path, value):
    """Return {path: value}; below a number is a list."""
    first, *rest = path
    return {first: [nested(rest[1:], value)]} if rest else {first: value}


def value_in(config, key):
    for part in key.split("."):
        config = config[int(part)] if part.isdecimal() else getattr(config, part)
    return plain(config)


def plain(value):
    """Return a value as it is in TOML; of a table in a list only what is not the default."""
    if is_dataclass(value):
        given = {each.name: getattr(value, each.name) for each in fields(value)}
        return {each.name: plain(given[each.name]) for each in fields(value) if given[each.name] != each.default}
    return [plain(each) for each in value] if isinstance(value, tuple | list) else value


@pytest.mark.parametrize("key", KEYS)
def test_every_key_in_every_way_and_order(key, tmp_path, monkeypatch):
    monkeypatch.setattr(configfile, "check", lambda config: None)  # that keys fit each other is tested elsewhere
    in_file, in_variable, on_line = three_values(key)
    path = tmp_path / "c.toml"
    path.write_text(as_file(key, in_file))
    (variable,), unknown = settings_in({variable_of(key): toml_value(in_variable)})
    assert not unknown
    ways = [
        ([], in_file, str(path)),
        ([variable], in_variable, variable_of(key)),
        ([variable, f"{key}={toml_value(on_line)}"], on_line, "command line"),
    ]
    for given, expected, origin in ways:
        assert value_in(load(str(path), given), key) == expected
        shown = origins(str(path), given)
        assert origin in {each for name, (_, each) in shown.items() if f"{name}.".startswith(f"{key}.")}
        assert key not in shown or plain(shown[key][0]) == expected
    assert value_in(eqnp.configure(str(path), {key: on_line}), key) == on_line


def test_default_and_preset_are_told_apart():
    shown = origins("small-kp-vf")
    assert shown["training.common_update"] == (True, "preset small-kp-vf")
    assert shown["dynamics.T1"] == (40, "preset small-mse-symmetric")  # three presets down
    assert shown["data.crop"] == (0, "default")
    assert {key: value for key, (value, _) in shown.items()} == flat(load("small-kp-vf"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("EQNP_TRAINING_EPOCH", "EQNP_TRAINING_EPOCHS"),
        ("EQNP_EPOCHS", "EQNP_TRAINING_EPOCHS"),
        ("EQNP_LR", "EQNP_OPTIMIZER_RATES"),
        ("EQNP_DATTA", "EQNP_DATA"),
        ("EQNP_training_epochs", "EQNP_TRAINING_EPOCHS"),
        ("EQNP_MODEL_LAYERS_2_CONVV", "EQNP_MODEL_LAYERS_0_CONV"),
    ],
)
def test_a_misspelt_variable_names_the_right_one(name, meant):
    with pytest.raises(ConfigurationError, match=f"^{name}: .*'{meant}'"):
        settings_in({name: "1"})


def test_typos_in_variables_are_understood():
    """At least 95 of 100 one-letter slips, after the prefix, are answered with the right name."""
    generator = random.Random(0)
    names, missed = [variable_of(key) for key in KEYS if ".0." not in key], []
    for _ in range(100):
        name = generator.choice(names)
        place = generator.randrange(len("EQNP_"), len(name))
        letter = generator.choice(string.ascii_uppercase)
        wrong = name[:place] + generator.choice([letter + name[place:], letter + name[place + 1 :], name[place + 1 :]])
        try:
            known = wrong in names or settings_in({wrong: "1"}) == ([], [])
        except ConfigurationError as error:
            known = f"'{name}'" in str(error)
        missed += [] if known else [(name, wrong)]
    assert len(missed) <= 5, missed


def test_other_variables():
    assert settings_in({"EQNP_DATA": "/x", "EQNP_FIXTURES": "y", "EQNP_TRAINING_SEED": "", "HOME": "z"}) == ([], [])
    assert settings_in({"EQNP_WAREHOUSE_42": "/x"}) == ([], ["EQNP_WAREHOUSE_42"])
    assert settings_in({"EQNP_MODEL_LAYERS_12_CONV": "3"})[0] == ["model.layers.12.conv=3"]


def test_a_wrong_value_is_blamed_on_its_variable(capsys, monkeypatch):
    monkeypatch.setenv("EQNP_TRAINING_EPOCHS", "many")
    assert_fails(run(capsys, "config", "show"), 2, "EQNP_TRAINING_EPOCHS=many", "whole number")
    assert_fails(run(capsys, "train"), 2, "EQNP_TRAINING_EPOCHS=many")
    monkeypatch.setenv("EQNP_TRAINING_EPOCHS", "3")
    monkeypatch.setenv("EQNP_NAME", "2024-01-01")
    assert_fails(run(capsys, "config", "show"), 2, "EQNP_NAME=\"'2024-01-01'\"")
    monkeypatch.setenv("EQNP_NAME", "'2024-01-01'")
    assert "\nepochs = 3\n" in run(capsys, "config", "show").out


def test_a_resume_treats_variables_as_set(capsys, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    assert train_small(capsys, folder, "--epochs", "1", "--quiet").code == 0
    monkeypatch.setenv("EQNP_TRAINING_SEED", "0")  # as it is: nothing changes
    monkeypatch.setenv("EQNP_TRAINING_EPOCHS", "2")
    monkeypatch.setenv("EQNP_OPTIMIZER_RATES", "0.05")
    monkeypatch.setenv("EQNP_OPTIMIZER_T_MAX", "2")
    assert run(capsys, "train", "--resume", folder, "--lr", "0.04").code == 0
    recorded = (folder / "history.csv").read_text()
    assert "optimizer.rates,0.1,0.04" in recorded and "training.epochs,1,2" in recorded
    assert "training.seed" not in recorded
    monkeypatch.setenv("EQNP_TRAINING_SEED", "5")
    result = run(capsys, "train", "--resume", folder, "--epochs", "3")
    assert_fails(result, 2, "training.seed", "(by EQNP_TRAINING_SEED)")
    assert_fails(run(capsys, "evaluate", folder), 2, "training.seed", "(by EQNP_TRAINING_SEED)")
    monkeypatch.delenv("EQNP_TRAINING_SEED")
    monkeypatch.setenv("EQNP_DYNAMICS_T1", "9")
    assert "with         dynamics.T1 = 9 instead of 4" in run(capsys, "evaluate", folder).out


def test_the_library_does_not_read_the_environment(monkeypatch):
    monkeypatch.setenv("EQNP_TRAINING_EPOCHS", "77")
    assert eqnp.configure("digits").training.epochs == 4


def test_an_ignored_variable_is_one_line(capsys, monkeypatch):
    monkeypatch.setenv("EQNP_WAREHOUSE_42", "1")
    result = run(capsys, "config", "show")
    assert (result.code, result.err) == (0, "EQNP_WAREHOUSE_42: no such setting; the variable is ignored\n")


@pytest.mark.parametrize("name", presets.names())
def test_a_commented_file_is_its_preset(name, tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(commented(load(name)))
    assert load(str(path)) == load(name)
    # A line of a value, such as a description, may be longer.
    assert all(len(line) <= 80 for line in path.read_text().splitlines() if line.lstrip().startswith("#"))


def test_config_init_and_check(capsys, tmp_path):
    path = tmp_path / "mine.toml"
    assert run(capsys, "config", "init", path, "--preset", "mnist-cnn").code == 0
    config = load(str(path))
    assert config.name == "mine" and config.model == load("mnist-cnn").model
    assert_fails(run(capsys, "config", "init", path), 2, "exists", "--force")
    assert_fails(run(capsys, "config", "init", "--preset", "mnist-cn"), 2, "mnist-cnn")
    checked = run(capsys, "config", "check", path)
    assert checked.code == 0 and "no mistakes" in checked.out
    path.write_text(path.read_text().replace("epochs = ", "epoch = "))
    assert_fails(run(capsys, "config", "check", path), 2, str(path), "'epochs'")
    path.write_text('base = "digits"\n[model]\nlayers = [{ conv = 3, kernel = 40 }, { dense = 10 }]\n')
    assert_fails(run(capsys, "config", "check", path), 2, str(path), "40x40", "28x28")
    assert_fails(run(capsys, "config", "check", tmp_path / "none.toml"), 2, "no such file")


def test_config_show_can_be_read_back(capsys, tmp_path):
    for options in ([], ["--origin"]):
        result = run(capsys, "config", "show", "mnist-cnn", "--epochs", "3", *options)
        path = tmp_path / "c.toml"
        path.write_text(result.out)
        assert load(str(path)) == load("mnist-cnn", ["training.epochs=3"])
    assert "epochs = 3                            # command line\n" in result.out
    folder = tmp_path / "run"
    assert train_small(capsys, folder, "--epochs", "0", "--quiet").code == 0
    assert run(capsys, "config", "show", folder).out == (folder / "config.toml").read_text()
