"""Mistakes on the command line: each is one line that says what was meant, by kind."""

from __future__ import annotations

import shutil
import tomllib

import pytest
from commands import SMALL_OPTIONS, assert_fails, overrides, run, train_small
from typos import typos

from eqnp.cli.main import eqnp, main
from eqnp.cli.options import ShortForm
from eqnp.errors import ConfigurationError
from eqnp.runs import presets
from eqnp.runs.configfile import load
from eqnp.runs.keys import OTHER_NAMES, known_keys, named_keys
from eqnp.runs.runfolder import RunFolder
from eqnp.runs.spelling import did_you_mean, near_words, slips


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder; the tests make a copy where they are."""
    folder = tmp_path_factory.mktemp("runs") / "done"
    assert main(["train", "--quiet", "--out", str(folder), *SMALL_OPTIONS, "--epochs", "1"]) == 0
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """A folder to work in, with a run ``done`` and a folder ``plain``."""
    shutil.copytree(trained, tmp_path / "done")
    (tmp_path / "plain").mkdir()
    monkeypatch.chdir(tmp_path)


# command, essential words
OPTIONS = [
    ("train --epocks 3", ["--epochs"]),
    ("train --momentum 0.9", ["--set optimizer.momentum=0.9"]),
    ("train --momentum=0.9", ["--set optimizer.momentum=0.9"]),
    ("train --optimizer.momentum=0.9", ["--set optimizer.momentum=0.9"]),
    ("train --momentun 0.9", ["--set optimizer.momentum=0.9"]),
    ("train --momentum", ["--set optimizer.momentum=..."]),
    ("train --momentum --quiet", ["--set optimizer.momentum=..."]),
    ("train --T1 4", ["--set dynamics.T1=4"]),
    ("train --t1 4", ["--set dynamics.T1=4"]),
    ("train --weight-decay 1e-4", ["--set optimizer.weight_decay=1e-4"]),
    ("train --weight_decay 1e-4", ["--set optimizer.weight_decay=1e-4"]),
    ("train --learning-rate 0.1", ["did you mean --lr 0.1"]),
    ("train --learning_rate 0.1", ["did you mean --lr 0.1"]),
    ("train -lr 0.1", ["did you mean --lr 0.1"]),
    ("train --batch 10", ["did you mean --batch-size 10"]),
    ("train --batch_size 10", ["did you mean --batch-size 10"]),
    ("train --num-workers 2", ["did you mean --threads 2"]),
    ("train --optimizer adam", ["--set optimizer.name=adam"]),
    ("train --dataset mnist", ["--set data.name=mnist"]),
    ("train --schedule cosine", ["--set dynamics.schedule=cosine", "--set optimizer.schedule=cosine"]),
    ("train --name mine", ["--set name=mine"]),
    ("train --layers [{dense=10}]", ["--set 'model.layers=[{dense=10}]'"]),
    ("train --thread 2", ["--threads"]),
    ("train --gpu", ["--backend cupy"]),
    ("train --output x", ["--out"]),
    ("bench --threads=2 --batchsize 3", ["--batch-size 3"]),
    ("evaluate done --beta 0.1", ["--set dynamics.beta=0.1"]),
    ("check --epochs 3", ["--set training.epochs=3"]),
    ("presets --epochs 3", ["no option --epochs"]),
    ("train --zzzzzz", ["no option --zzzzzz (see"]),
    ("--epochs 3 train", ["--epochs", "options follow the command"]),
    ("--verison", ["--version"]),
]
SETTINGS = [
    ("train --set epochs=3", ["'training.epochs'"]),
    ("train --set lr=0.1", ["'optimizer.rates'"]),
    ("train --set training.lr=0.1", ["'optimizer.rates'"]),
    ("train --set batch=3", ["'training.batch_size'"]),
    ("train --set optimizer.beta=3", ["'dynamics.beta'", "'beta1'"]),
    ("train --set keep=0.5", ["'model.layers.0.keep'"]),
    ("train --set epohcs=3", ["'training.epochs'"]),
    ("train --set training.epochs 3", ["key=value: --set training.epochs=3"]),
    ("train digits --set training.epochs 3", ["key=value: --set training.epochs=3"]),
    ("train --set epochs 3", ["key=value: --set training.epochs=3"]),
    ("train --set training.epochs =3", ["key=value: --set training.epochs=3"]),
    ("train --set model.layers.1.conv 3", ["key=value: --set model.layers.1.conv=3"]),
    ("evaluate done --set training.batch_size 3", ["key=value: --set training.batch_size=3"]),
    ("train --set training.epochs", ["key=value: --set training.epochs=VALUE"]),
    ("train --set training.epochs --quiet", ["key=value: --set training.epochs=VALUE"]),
    ("train --set name=2024-01-01", ["2024-01-01", "date", "quote it", """--set "name='2024-01-01'\""""]),
    ("train --set name=07:30:00", ["07:30:00", "date or time", """--set "name='07:30:00'\""""]),
    ("train --set name=5", ["a number", """--set "name='5'\""""]),
    ("train --set description=true", ["quote it", """--set "description='true'\""""]),
    (
        'train --set data.folder="C:\\Users\\x"',
        ["not a TOML string", "backslash", "without quotes", ": C:\\Users\\x"],
    ),
    ('train --set data.folder="C:\\temp"', ["data.folder", "control characters", "backslash"]),
    ('train --set name="mine', ["not a TOML string", "without quotes"]),
    ("train --lr x", ["optimizer.rates", "'x'"]),
    ("train --lr 0.2 0.1", ["one word", "--lr '[0.2, 0.1]'"]),
    ("train --beta 0", ["--beta", "x>0"]),
    ("train --epochs -1", ["--epochs", "x>=0"]),
]
WORDS = [
    ("train data.name=mnist", ["did you mean --set data.name=mnist"]),
    ("train epochs=3", ["did you mean --set training.epochs=3"]),
    ("train digits epochs=3", ["did you mean --set training.epochs=3"]),
    ("evaluate done training.threads=1", ["did you mean --set training.threads=1"]),
    ("train done", ["run folder", "eqnp train --resume done", "eqnp evaluate done", "eqnp train done/config.toml"]),
    ("train done/", ["run folder", "eqnp train --resume done"]),
    ("bench done", ["run folder", "eqnp bench done/config.toml"]),
    ("train plain", ["plain: this is a folder", ".toml"]),
    ("bench plain", ["plain: this is a folder", ".toml"]),
    ("train digits mnist-mlp", ["unexpected 'mnist-mlp'", "[PRESET | CONFIG.toml]"]),
    ("evaluate done more", ["unexpected 'more'", "RUN"]),
    ("doctor more", ["unexpected 'more'"]),
    ("trian", ["'train'"]),
    ("eval done", ["'evaluate'"]),
    ("resume done", ["train --resume RUN"]),
    ("help", ["--help"]),
    ("data lsit", ["'list'"]),
    ("qqqqqqqq", ["choose one of train, evaluate"]),
]


@pytest.mark.parametrize(
    ("command", "words"), OPTIONS + SETTINGS + WORDS, ids=[c for c, _ in OPTIONS + SETTINGS + WORDS]
)
def test_a_mistake_names_what_was_meant(capsys, here, tmp_path, command, words):
    before = sorted(tmp_path.rglob("*"))
    arguments = command.split() if '"' not in command else command.split(maxsplit=2)
    assert_fails(run(capsys, *arguments), 2, *words)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_windows_path_in_a_file(tmp_path):
    (tmp_path / "c.toml").write_text('base = "digits"\n[data]\nfolder = "C:\\Users\\x"\n')
    with pytest.raises(ConfigurationError, match=r"not TOML.*single quotes"):
        load(str(tmp_path / "c.toml"))
    (tmp_path / "c.toml").write_text('base = "digits"\nname = 2024-01-01\n')
    with pytest.raises(ConfigurationError, match='date or time in TOML: quote it, "2024-01-01"'):
        load(str(tmp_path / "c.toml"))
    (tmp_path / "c.toml").write_text('base = "digits"\n[training]\nlr = 0.1\n')
    with pytest.raises(ConfigurationError, match=r"did you mean 'optimizer.rates'"):
        load(str(tmp_path / "c.toml"))
    assert load("digits", ["data.folder=C:\\Users\\x"]).data.folder == "C:\\Users\\x"
    assert load("digits", ["data.folder='C:\\temp'"]).data.folder == "C:\\temp"


def test_what_only_looks_like_a_mistake_is_taken(capsys, here, tmp_path):
    (tmp_path / "epochs=0.toml").write_text('base = "digits"\n[training]\nepochs = 0\n')
    assert train_small(capsys, tmp_path / "new", "epochs=0.toml", "--epochs", 0).code == 0
    (tmp_path / "digits").mkdir()
    assert train_small(capsys, tmp_path / "lr=1", "digits", "--epochs", 0).code == 0, "a preset of that name"
    assert run(capsys, "evaluate", "lr=1", "--checkpoint", "last").code == 0


def settings_of(folder):
    return tomllib.loads((folder / "config.toml").read_text())


def test_short_forms_are_settings(capsys, tmp_path):
    short = [
        "--epochs",
        "0",
        "--batch-size",
        "7",
        "--beta",
        "0.25",
        "--seed",
        "3",
        "--threads",
        "1",
        "--dtype",
        "float64",
    ]
    assert train_small(capsys, tmp_path / "short", *short, "--lr", "[0.2, 0.1]").code == 0
    long = overrides(
        "training.epochs=0", "training.batch_size=7", "dynamics.beta=0.25", "training.seed=3", "training.threads=1",
        "training.dtype=float64", "optimizer.rates=[0.2, 0.1]",
    )  # fmt: skip
    assert train_small(capsys, tmp_path / "long", *long).code == 0
    assert settings_of(tmp_path / "short") == settings_of(tmp_path / "long")
    assert (tmp_path / "short" / "last.h5").exists()
    assert run(capsys, "train", "--resume", tmp_path / "short", "--epochs", 1, "--lr", 0.05).code == 0
    resumed = settings_of(tmp_path / "short")
    assert resumed["training"]["epochs"] == 1 and resumed["optimizer"]["rates"] == 0.05


@pytest.mark.parametrize(
    ("words", "epochs", "threads"),
    [
        ("--epochs 0 --set training.epochs=1", 1, 2),
        ("--set training.epochs=1 --epochs 0", 0, 2),
        ("--epochs 0 --set training.epochs=1 --epochs 0 --threads 1", 0, 1),
        ("--threads 1 --set training.epochs=0 --set training.threads=3", 0, 3),
        ("--set=training.epochs=1 --threads=1 --epochs=0 --set training.threads=2 --quiet", 0, 2),
    ],
)
def test_the_last_one_of_a_key_counts(capsys, tmp_path, words, epochs, threads):
    assert train_small(capsys, tmp_path / "run", *words.split()).code == 0
    training = settings_of(tmp_path / "run")["training"]
    assert (training["epochs"], training["threads"]) == (epochs, threads)


SHORT_FORMS = {
    "train": {"--epochs", "--batch-size", "--lr", "--beta", "--seed", "--threads", "--dtype", "--tf32"},
    "bench": {"--batch-size", "--threads", "--dtype", "--tf32"},
    "check": {"--beta"},
    "evaluate": {"--batch-size"},
    "states": {"--beta"},
}


@pytest.mark.parametrize("name", SHORT_FORMS)
def test_commands_have_the_short_forms_that_mean_something_there(name):
    command = eqnp.get_command(None, name)
    found = {param.opts[0]: param.configuration_key for param in command.params if hasattr(param, "configuration_key")}
    assert set(found) == SHORT_FORMS[name]
    assert set(found.values()) <= set(known_keys())


def test_the_loser_of_two_runs_into_one_folder_is_told_that_it_is_in_use(capsys, tmp_path):
    for state in ("made just now", "with a configuration"):
        folder = tmp_path / state
        with RunFolder.create(folder, 'base = "digits"\n'):
            if state == "made just now":
                (folder / "config.toml").unlink()
            assert_fails(train_small(capsys, folder), 9, str(folder), "in use by process", "another --out")
    assert_fails(train_small(capsys, folder), 2, "has a run already", "--resume")
    with RunFolder.open(folder, lock=True):
        assert_fails(run(capsys, "train", "--resume", folder), 9, "in use", "wait until it ends")


def test_slips():
    assert slips("epochs", "epochs") == 0 and slips("epcohs", "epochs") == 1 and slips("", "abc") == 3
    assert slips("epoch", "epochs") == slips("eepochs", "epochs") == slips("opochs", "epochs") == 1
    assert near_words("x", []) == [] and near_words("--sed", ["--set", "--seed", "--out"]) == ["--set", "--seed"]
    assert did_you_mean([]) == "" and did_you_mean("ab") == "did you mean a or b?"


def test_other_names_are_of_keys_that_are_there():
    assert set(OTHER_NAMES.values()) <= set(known_keys())
    assert not set(OTHER_NAMES) & {key.rpartition(".")[2] for key in known_keys()} - {"name"}
    for key in known_keys():
        assert key in named_keys(key) and (key.endswith(".name") or key in named_keys(key.rpartition(".")[2])), key


def test_typos_are_understood(capsys):
    """At least 95 of 100 one-letter slips in a command, an option, a preset or a key get the right word."""
    options = [param.opts[0][2:] for param in eqnp.get_command(None, "train").params if param.opts[0] != "source"]
    keys = [key for key in known_keys() if ".0." not in key]
    for words, arguments in (
        (eqnp.list_commands(None), "{}"),
        (options, "train --{} 1"),
        (presets.names(), "presets {}"),
        ([key.rpartition(".")[2] for key in keys], "train --set {}=1"),
        ([key.rpartition(".")[2] for key in keys], "train --{} 1"),
        ([key for key in keys if "." in key], "train --set {}=1"),
        ([key for key in keys if "." in key], "train --{} 1"),
    ):
        cases = list(typos(words))
        missed = [(word, wrong) for word, wrong in cases if not understood(capsys, arguments, wrong, word)]
        assert len(missed) <= 5, (arguments, missed)


def understood(capsys, line, wrong, word):
    """Return whether the answer to ``line`` with ``wrong`` for ``word`` suggests it, or the part that is wrong."""
    result = run(capsys, *line.format(wrong).split())
    assert result.code == 2, line
    hint = result.err.partition("did you mean")[2].partition("?")[0]
    for sign in "'=,":
        hint = hint.replace(sign, " ")
    suggested = [each.removeprefix("--") for each in hint.split()]
    own = {
        p.configuration_key: p.opts[0][2:] for p in eqnp.get_command(None, "train").params if isinstance(p, ShortForm)
    }
    own |= {key.rpartition(".")[2]: option for key, option in own.items()}  # the short form of --batch_size
    (table, _, last), (wrong_table, _, wrong_last) = word.rpartition("."), wrong.rpartition(".")
    return (
        word in (suggested if table else [part for each in suggested for part in (each, each.rpartition(".")[2])])
        or (bool(table) and last in suggested and wrong_table == table)
        or (word in own and own[word] in suggested)
        or (table in suggested and wrong_last == last)
    )
