"""Configurations: every key, every mistake, and the way to TOML and back."""

from __future__ import annotations

import random
import string
import tomllib
from dataclasses import fields, is_dataclass, replace
from typing import get_type_hints

import pytest
from commands import SMALL_OPTIONS, overrides, run

from eqnp.architecture import LOSSES
from eqnp.connections.forms import FORMS
from eqnp.connections.layers import POOLS
from eqnp.dynamics import WAYS
from eqnp.errors import ConfigurationError
from eqnp.inputs import SCHEDULES
from eqnp.ops.activations import ACTIVATIONS
from eqnp.runs import presets
from eqnp.runs.config import ACTIVATION_NAMES, LARGEST_WHOLE, Config, Dynamics, Layer, Model
from eqnp.runs.configfile import load, preset_text, to_toml
from eqnp.runs.experiment import make_architecture
from eqnp.runs.idle import idle_keys
from eqnp.stencils import ESTIMATORS

INPUTS = {"mnist-small": (28, 28, 1), "mnist": (28, 28, 1), "cifar10": (32, 32, 3), "cifar100": (32, 32, 3)}


def keys(kind=Config, prefix=""):
    """Yield (dotted name, field) of every key that is no table."""
    hints = get_type_hints(kind)
    for each in fields(kind):
        if is_dataclass(hints[each.name]):
            yield from keys(hints[each.name], f"{prefix}{each.name}.")
        else:
            yield prefix + each.name, each


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_is_whole_and_comes_back_from_its_toml(name, tmp_path):
    config = load(name)
    assert config.name == name and config.description
    classes = 100 if config.data.name == "cifar100" else 10
    architecture = make_architecture(config.model, INPUTS[config.data.name], classes)
    assert architecture.classes == classes
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    assert load(str(path)) == config


def test_names_are_those_that_the_library_knows():
    choices = {name: field.metadata["choices"] for name, field in keys()}
    assert set(choices["model.activation"]) == set(ACTIVATION_NAMES) == set(ACTIVATIONS)
    assert set(choices["model.loss"]) == set(LOSSES)
    assert set(choices["training.estimator"]) == set(ESTIMATORS)
    assert set(choices["dynamics.schedule"]) == set(SCHEDULES) >= {schedule for schedule, _ in WAYS.values()}
    assert set(choices["training.convolution"]) == set(FORMS)
    pool = next(field for field in fields(Layer) if field.name == "pool")
    assert set(pool.metadata["choices"]) == set(POOLS)


def test_every_key_has_a_meaning():
    for name, field in [*keys(), *(("layer", field) for field in fields(Layer))]:
        assert name in ("name",) or field.metadata["meaning"], name


def test_overrides():
    config = load(
        "digits",
        [
            "training.epochs=7",
            "optimizer.rates=[0.1, 0.2, 0.3]",
            "data.folder=/some where/else",
            "model.layers.0.conv=9",
            "model.layers.1={conv=3, kernel=[2, 3]}",
            "data.flip=true",
            "dynamics.beta=1",
        ],
    )
    assert config.training.epochs == 7 and config.optimizer.rates == (0.1, 0.2, 0.3)
    assert config.data.folder == "/some where/else" and config.data.flip is True
    assert config.model.layers[0].conv == 9 and config.model.layers[1].kernel == (2, 3)
    assert config.dynamics.beta == 1.0 and isinstance(config.dynamics.beta, float)
    assert load("digits", ["training.epochs=1", "training.epochs=2"]).training.epochs == 2


def test_the_default_is_the_digits():
    assert load() == load("digits")


def assert_line(arguments, *words):
    with pytest.raises(ConfigurationError) as error:
        load(*arguments)
    text = str(error.value)
    assert "\n" not in text and len(text) < 400, text
    assert text.encode("utf-8"), "any output takes it"
    for word in words:
        assert word in text, text


DIGITS = "9" * 5000  # more than Python reads
HEX = "0x" + "f" * 5000  # which Python reads, and does not write

MISTAKES = [
    ("training.epoch=3", ["training.epoch", "'epochs'"]),
    ("trainin.epochs=3", ["trainin", "'training'"]),
    ("training.epochs=2.5", ["training.epochs", "whole number", "2.5"]),
    ("training.epochs=true", ["training.epochs", "True"]),
    ("training.epochs=-1", ["training.epochs", "from 0 to 2147483647", "-1"]),
    ("training.epochs=2147483648", ["training.epochs", "from 0 to 2147483647"]),
    ("training.batch_size=9223372036854775807", ["training.batch_size", "from 1 to 2147483647"]),
    ("training.seed=9223372036854775808", ["training.seed", "to 9223372036854775807"]),
    ("model.layers.0.kernel=[3, 2147483648]", ["model.layers.0.kernel", "from 1 to 2147483647"]),
    (f"training.epochs={DIGITS}", ["training.epochs", "whole number", "999..."]),
    (f"training.epochs={HEX}", ["training.epochs", "whole number", "too large"]),
    (f"dynamics.beta={HEX}", ["dynamics.beta", "finite"]),
    (f"optimizer.rates=[1, {HEX}]", ["optimizer.rates", "finite"]),
    (f"data.name={HEX}", ["data.name", "string"]),
    (f"model.layers.{DIGITS}.conv=3", ["999...", "0 to 2"]),
    (f"training.seed.{'a.' * 3000}a=1", ["training.seed", "whole number", "too large"]),
    ("training.epochs=0\nfoo=1", ["training.epochs", "more than one line"]),
    ("description=two\nlines", ["description", "more than one line"]),
    ("name=a\udcffb", ["--set name=a\\udcffb: ", "UTF-8"]),
    ("description='\udcff'", ["description", "UTF-8"]),
    ("na\udcffme=b", ["na\\udcffme", "'name'"]),
    ('data.folder="a\\u0000b"', ["data.folder", "NUL"]),
    ("training.epochs", ["key=value"]),
    ("=3", ["key=value"]),
    (".=3", ["key=value"]),
    ("training..epochs=3", ["key=value"]),
    ("training=3", ["training", "table", "3"]),
    ("training.epochs.more=3", ["training.epochs.more"]),
    ("dynamics.beta=0", ["dynamics.beta", "above 0"]),
    ("dynamics.beta=inf", ["dynamics.beta", "finite number above 0", "inf"]),
    ("dynamics.beta=nan", ["dynamics.beta", "nan"]),
    ("dynamics.T1=0", ["dynamics.T1", "from 1 to"]),
    ("data.flip=1", ["data.flip", "true or false"]),
    ("data.name=mnist-smal", ["data.name", "'mnist-small'"]),
    ("training.estimator=symetric", ["training.estimator", "'symmetric'", "one-sided"]),
    ("training.dtype=float16", ["training.dtype", "float32"]),
    ("model.layers=3", ["model.layers", "list"]),
    ("model.layers=[]", ["model.layers", "at least one"]),
    ("model.layers=[3]", ["model.layers.0", "table"]),
    ("model.layers=[{dense=10, conv=3}]", ["model.layers.0", "either"]),
    ("model.layers=[{}]", ["model.layers.0", "either"]),
    ("model.layers=[{dense=10, kernel=5}]", ["model.layers.0", "kernel", "dense"]),
    ("model.layers=[{conv=3, kernel=[1, 2, 3]}]", ["model.layers.0.kernel", "two"]),
    ("model.layers=[{conv=3, pool='min'}]", ["model.layers.0.pool", "average"]),
    ("model.layers.1.skips=3", ["model.layers.1.skips", "list of skips"]),
    ("model.layers.1.skips=[{}]", ["model.layers.1.skips.0.source", "give the layer"]),
    ("model.layers.1.skips=[{source=0, kernal=1}]", ["model.layers.1.skips.0.kernal", "kernel"]),
    ("model.layers.1.skips=[{source=0, stride=0}]", ["model.layers.1.skips.0.stride", "from 1"]),
    ("model.layers.1.source=-2", ["model.layers.1.source", "from -1"]),
    ("model.layers.1.activation=relu7", ["model.layers.1.activation", "relu6"]),
    ("model.initialisation=xavier", ["model.initialisation", "kaiming"]),
    ("model.layers=[{units=10}]", ["model.layers.0.units", "dense"]),
    ("model.layers.7.conv=3", ["'7'", "0 to 2"]),
    ("optimizer.rates=[0.1]", ["optimizer.rates", "1 values for 3 layers"]),
    ("optimizer.rates=[]", ["optimizer.rates", "list of finite numbers"]),
    ("optimizer.rates=inf", ["optimizer.rates", "finite number", "at least 0", "got inf"]),
    ("optimizer.rates=[0.1, 'a', 2]", ["optimizer.rates"]),
    ("optimizer.weight_decay=-1", ["optimizer.weight_decay", "at least 0"]),
    ("optimizer.momentum=1", ["optimizer.momentum", "below 1"]),
    ("optimizer.name=adam", ["optimizer.momentum", "only for sgd"]),
    ("optimizer.average=1", ["optimizer.average", "below 1"]),
    ("training.label_smoothing=1.0", ["training.label_smoothing", "below 1"]),
    ("optimizer.schedule=one_cycle", ["optimizer.schedule", "one-cycle"]),
    ("optimizer.warmup=-1", ["optimizer.warmup", "at least 0"]),
    ("optimizer.clip_norm=-1", ["optimizer.clip_norm", "at least 0"]),
    ("optimizer.clip_norm=inf", ["optimizer.clip_norm", "finite number"]),
    ("optimizer.nesterov=1", ["optimizer.nesterov", "true"]),
    ("name=a/b", ["name", "folder"]),
    ("name=.hidden", ["name", "folder"]),
]


@pytest.mark.parametrize(("override", "words"), MISTAKES, ids=[ascii(override[:60]) for override, _ in MISTAKES])
def test_a_wrong_override_is_one_line_that_blames_it(override, words):
    assert_line(("digits", [override]), "--set", *words)
    with pytest.raises(ConfigurationError) as error:
        load("digits", ["dynamics.T1=9", override])
    assert str(error.value).startswith(f"--set {override[:2]}")


def test_bptt_has_no_tolerance(capsys, tmp_path):
    """It would train on all T1 steps and be evaluated after fewer. Runs of older versions can be read and resumed."""
    words = [*SMALL_OPTIONS, *overrides("training.algorithm=bptt", "training.epochs=1")]
    refused = run(capsys, "train", *words, *overrides("dynamics.tolerance=0.1"), "--out", tmp_path / "new")
    assert refused.code == 2 and "dynamics.tolerance: bptt differentiates all" in refused.err
    folder = tmp_path / "old"
    assert run(capsys, "train", "--quiet", *words, "--out", folder).code == 0
    config = folder / "config.toml"
    config.write_text(config.read_text().replace("tolerance = 0.0", "tolerance = 0.1"))
    assert run(capsys, "evaluate", folder).code == 0 and run(capsys, "report", folder).code == 0
    assert run(capsys, "train", "--resume", folder).code == 2
    more = overrides("dynamics.tolerance=0", "training.epochs=2", "optimizer.T_max=2")
    assert run(capsys, "train", "--quiet", "--resume", folder, *more).code == 0


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        (["optimizer.name=adam", "dynamics.omega=2"], "--set dynamics.omega=2: dynamics.omega"),
        (["optimizer.nesterov=true", "optimizer.momentum=0"], "--set optimizer.momentum=0: optimizer.nesterov: only f"),
        (["optimizer.momentum=0", "optimizer.nesterov=true"], "--set optimizer.nesterov=true: optimizer.nesterov: on"),
        (["optimizer.name=adam", "dynamics.T1=3"], "--set optimizer.name=adam: optimizer.momentum"),
        (["optimizer.name=adam", "dynamics.omega=2", "dynamics.omega=1"], "--set optimizer.name=adam: optimizer.mom"),
        (["model.layers=[]", "model.layers.0.conv=3"], "--set model.layers.0.conv=3: '0'"),
    ],
)
def test_the_override_that_made_a_mistake_is_blamed(overrides, start):
    with pytest.raises(ConfigurationError) as error:
        load("digits", overrides)
    assert str(error.value).startswith(start)


def test_an_override_may_mend_what_does_not_fit(tmp_path):
    assert load("digits", ["optimizer.name=adam", "optimizer.momentum=0"]).optimizer.name == "adam"
    path = tmp_path / "c.toml"
    path.write_text("")
    assert load(str(path), ["model.layers=[{dense=10}]"]).model.layers == (Layer(dense=10),)
    assert_line((str(path), ["dynamics.T1=3"]), f"{path}: model.layers", "at least one")


def test_the_largest_whole_numbers():
    assert load("digits", [f"training.epochs={LARGEST_WHOLE}"]).training.epochs == LARGEST_WHOLE
    assert load("digits", [f"training.seed={2**63 - 1}"]).training.seed == 2**63 - 1
    assert load("digits", ["dynamics.beta=9999999999999999999999"]).dynamics.beta == 1e22, "this one need not be whole"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.layers.0.conv=2147483647"], ["model.layers.0", "1.2e+12"]),
        (["model.layers.1.skips=[{source=0}]"], ["model.layers.1.skips.0", "(28, 28,", "layer 0"]),
        (["model.layers.1.skips=[{source=2}]"], ["model.layers.1.skips.0", "not a lower layer"]),
        (["model.layers.0.padding=1000000000"], ["model.layers.0", "padding"]),
        (["model.layers.0={conv=1, kernel=1, stride=2147483647, padding=1000000000}"], ["model.layers.0", "padding"]),
        (["model.layers=[{conv=1000000000, kernel=1}, {dense=10}]"], ["model.layers.1", "dense 10"]),
        (["model.layers=[{dense=1000000}, {dense=10000000}, {dense=10}]"], ["model.layers.1"]),
    ],
)
def test_layers_that_no_memory_holds_are_refused(overrides, words):
    with pytest.raises(ConfigurationError) as error:
        make_architecture(load("digits", overrides).model, (28, 28, 1), 10)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("name", ["", "digit", "mine.toml", "./digits", "../presets/digits", "\udcff"])
def test_only_a_presets_name_shows_a_preset(name):
    with pytest.raises(ConfigurationError, match="no preset"):
        preset_text(name)


def test_an_empty_name_is_not_the_default():
    assert_line(("",), "no preset ''")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[training\nepochs = 3", ["c.toml", "not TOML", "line"]),
        ("training = 3", ["c.toml", "training", "table"]),
        ("[training]\nepoch = 3", ["c.toml", "training.epoch", "'epochs'"]),
        ("[model]\nlayers = [{ conv = 'x' }]", ["c.toml", "model.layers.0.conv", "whole number"]),
        ("", ["c.toml", "model.layers", "at least one"]),
        ("a = " + "[" * 5000, ["c.toml", "not TOML"]),
        (f"[training]\nepochs = {DIGITS}", ["c.toml", "thousands of digits"]),
        (f"[training]\nepochs = {HEX}", ["c.toml", "training.epochs", "too large"]),
        ('"" = 3', ["c.toml", "no table or key ''"]),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, text, words):
    path = tmp_path / "c.toml"
    path.write_text(text)
    assert_line((str(path),), *words)


def test_a_file_that_cannot_be_read(tmp_path):
    assert_line((str(tmp_path / "none.toml"),), "none.toml", "no such file")
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe\x00")
    assert_line((str(tmp_path / "c.toml"),), "UTF-8")
    (tmp_path / "d.toml").mkdir()
    assert_line((str(tmp_path / "d.toml"),), "d.toml", "cannot be read")


def test_a_file_with_a_byte_order_mark(tmp_path):
    (tmp_path / "c.toml").write_bytes(b'\xef\xbb\xbfbase = "digits"\n')
    assert load(str(tmp_path / "c.toml")).model == load("digits").model


def test_a_file_whose_name_is_no_text_lends_what_it_can(tmp_path):
    path = tmp_path / "c\udcff.toml"
    path.write_text('base = "digits"\n')
    assert load(str(path)).name == "c?"


def test_a_mistake_in_the_file_is_not_blamed_on_an_override(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[training]\nepoch = 3\n[model]\nlayers = [{ dense = 10 }]")
    with pytest.raises(ConfigurationError) as error:
        load(str(path), ["training.seed=1"])
    assert str(error.value).startswith(f"{path}: ")


def test_a_configuration_of_ones_own_is_named_after_its_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[model]\nlayers = [{ dense = 10 }]")
    config = load(str(path))
    assert config == Config(name="mine", model=Model(layers=(Layer(dense=10),)))
    assert replace(config, dynamics=Dynamics(T1=3)) == load(str(path), ["dynamics.T1=3"])


def fuzz(count, seed):
    """Whatever is given, a configuration comes out or one line."""
    generator = random.Random(seed)
    names = [name for name, _ in keys()]
    values = [
        "1",
        "-1",
        "0.5",
        "1e400",
        "nan",
        "true",
        "'a'",
        "[]",
        "[1]",
        "{}",
        "{a=1}",
        "[{}]",
        "[[1]]",
        "x",
        "",
        "1" * 400,
    ]
    values += ["2026-11-24", "'''\n'''", "[{conv=1}]", "[{dense=10}]", '"\\u0000"', "9" * 30]
    values += [DIGITS, HEX, f"[{HEX}]", f"{{a={HEX}}}", "\udcff", '"\udcff"', "0\nb=1", "[" * 5000, str(LARGEST_WHOLE)]
    for _ in range(count):
        overrides = []
        for _ in range(generator.randint(1, 3)):
            name = generator.choice(names)
            if generator.random() < 0.3:
                place = generator.randrange(len(name) + 1)
                name = name[:place] + generator.choice(string.printable) + name[place:]
            overrides.append(f"{name}={generator.choice(values)}")
        try:
            config = load("digits", overrides)
        except ConfigurationError as error:
            assert len(str(error).splitlines()) == 1, overrides
        else:
            assert isinstance(config, Config)
            assert tomllib.loads(to_toml(config).encode().decode())


def test_fuzzed_overrides():
    fuzz(500, 0)


@pytest.mark.slow
def test_fuzzed_overrides_at_length():
    fuzz(50_000, 1)


def test_a_base_lends_its_keys(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "digits"\n[dynamics]\nT1 = 3\n')
    digits, mine = load("digits"), load(str(path))
    assert mine.dynamics == replace(digits.dynamics, T1=3)
    assert mine.model == digits.model and mine.name == "mine"
    path.write_text('base = "digit"')
    assert_line((str(path),), "mine.toml", "base", "'digits'")
    path.write_text("base = 3")
    assert_line((str(path),), "mine.toml", "base", "name of a preset")


def test_every_row_of_the_posters_table():
    """Channels, phases, beta, rates and what differs from row to row, as the issue lists them."""
    rows = {name: load(f"cifar10-{name}") for name in POSTER}
    for name, config in rows.items():
        loss, estimator, algorithm, T2, beta = POSTER[name]
        assert (config.model.loss, config.dynamics.T2, config.dynamics.beta) == (loss, T2, beta), name
        assert (config.training.estimator, config.training.algorithm) == (estimator, algorithm), name
        assert [layer.conv for layer in config.model.layers] == [128, 256, 512, 512, 0]
        assert [layer.padding for layer in config.model.layers[:4]] == [1, 1, 1, 0]
        assert {(layer.kernel, layer.stride, layer.pool) for layer in config.model.layers[:4]} == {((3, 3), 1, "max")}
        assert [layer.keep for layer in config.model.layers] == [1, 1, 1, 0.9 if "dropout" in name else 1, 1]
        assert config.model.activation == "half_hard_sigmoid" and config.model.gain == 1
        assert config.dynamics.T1 == 250 and config.dynamics.tolerance == 0
        assert config.training.epochs == 120 and config.training.batch_size == 128
        optimizer = config.optimizer
        assert (optimizer.name, optimizer.momentum, optimizer.weight_decay) == ("sgd", 0.9, 3e-4)
        assert optimizer.rates == (0.25, 0.15, 0.1, 0.08, 0.05)
        assert (optimizer.schedule, optimizer.T_max, optimizer.minimum_rate) == ("cosine", 100, 1e-5)
        assert config.data.flip and config.data.crop == 4 and config.data.normalisation == "published"
        assert (config.model.kind == "vector-field") == ("vf" in name)
        assert config.training.common_update == (name == "kp-vf")
        assert (config.training.nudging == "asymmetric") == (name == "vf-asymmetric")


READOUT = "cross_entropy_readout"
POSTER = {
    "mse-onesided": ("squared_error", "one-sided", "ep", 30, 0.5),
    "mse-random-sign": ("squared_error", "random-sign", "ep", 30, 0.5),
    "mse-symmetric": ("squared_error", "symmetric", "ep", 30, 0.5),
    "mse-bptt": ("squared_error", "symmetric", "bptt", 30, 0.5),
    "ce-symmetric": (READOUT, "symmetric", "ep", 25, 1),
    "ce-bptt": (READOUT, "symmetric", "bptt", 25, 1),
    "ce-dropout": (READOUT, "symmetric", "ep", 25, 1),
    "ce-dropout-bptt": (READOUT, "symmetric", "bptt", 25, 1),
    "vf": (READOUT, "symmetric", "ep", 30, 1),
    "kp-vf": (READOUT, "symmetric", "ep", 30, 1),
    "vf-bptt": (READOUT, "symmetric", "bptt", 30, 1),
    "vf-asymmetric": (READOUT, "symmetric", "ep", 30, 1),
}


def test_a_warm_up_ends_before_its_one_cycle():
    cycle = ["optimizer.schedule=one-cycle", "training.epochs=4"]
    with pytest.raises(ConfigurationError, match=r"optimizer.warmup: 4 epochs are not below the 4 epochs"):
        load("digits", [*cycle, "optimizer.warmup=4"])
    assert load("digits", [*cycle, "optimizer.warmup=4", "optimizer.T_max=5"]).optimizer.warmup == 4
    assert load("digits", [*cycle, "optimizer.warmup=0.5", "training.epochs=0"]).training.epochs == 0


def test_keys_that_are_set_and_unused_are_named(capsys, tmp_path):
    """A user who sets a key expects that it does something."""
    settings = ["dynamics.check_every=3", "data.magnitude=5", "training.memory_gb=2", "optimizer.beta1=0.8"]
    lines = idle_keys(load("digits", [*settings, "optimizer.schedule=constant", "optimizer.T_max=4"]))
    assert [line.partition(" ")[0] for line in lines] == [
        "data.magnitude",
        "dynamics.check_every",
        "training.memory_gb",
        "optimizer.T_max",
        "optimizer.beta1",
    ]
    assert lines[1] == "dynamics.check_every = 3 has no effect, since dynamics.tolerance is 0"
    used = ["dynamics.tolerance=0.01", "data.randaugment=1", "optimizer.name=adam", "optimizer.momentum=0"]
    assert idle_keys(load("digits", [*settings[:2], settings[3], *used])) == []
    for more in ([], ["--dry-run"]):
        words = ["train", *SMALL_OPTIONS, *overrides(settings[0], "training.epochs=0"), *more]
        err = run(capsys, *words, "--out", tmp_path / str(len(more))).err
        assert "note: dynamics.check_every = 3 has no effect" in err


@pytest.mark.parametrize("preset", presets.names())
def test_no_preset_sets_a_key_that_it_does_not_use(preset):
    assert idle_keys(load(preset)) == []
