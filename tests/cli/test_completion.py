"""Completion in a shell, and the help of every command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import click
import pytest
from commands import run, train_small

from eqnp.cli.completing import SHELLS
from eqnp.cli.main import eqnp
from eqnp.runs import presets
from eqnp.runs.keys import choices_of, known_keys


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run in ``runs`` and one beside it."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("runs/first", "runs/second", "here"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.toml").write_text("")
    (folder / "runs" / "no-run").mkdir()
    (folder / "sweep.toml").write_text("[grid]\ndynamics.beta = [0.1, 0.2]\n")
    return folder


def completed(capsys, monkeypatch, shell, *words):
    """Return what a shell is told of the last of ``words``, types left out."""
    environment = {"COMP_WORDS": " ".join(["eqnp", *words]), "COMP_CWORD": str(len(words))}
    if shell == "fish":
        environment["COMP_CWORD"] = words[-1]
    for name, value in (environment | {"_EQNP_COMPLETE": f"{shell}_complete"}).items():
        monkeypatch.setenv(name, value)
    result = run(capsys)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    if shell == "bash":
        return [line.partition(",")[2] for line in lines if line.startswith("plain,")]
    if shell == "zsh":  # type, value, help
        return [lines[n + 1] for n in range(0, len(lines), 3) if lines[n] == "plain"]
    return [line.partition(",")[2].partition("\t")[0] for line in lines if line.startswith("plain,")]


CASES = [
    (["tra"], {"train"}),
    (["config", "sh"], {"show"}),
    (["train", "--resu"], {"--resume"}),
    (["train", "mnist-"], {"mnist-cnn", "mnist-mlp"}),
    (["presets", "digi"], {"digits"}),
    (["config", "init", "--preset", "digi"], {"digits"}),
    (["summary", "her"], {"here"}),
    (["evaluate", "runs/"], {"runs/first", "runs/second"}),
    (["evaluate", "fir"], {"runs/first"}),
    (["train", "--resume", "runs/s"], {"runs/second"}),
    (["train", "--set", "training.epo"], {"training.epochs="}),
    (["data", "fetch", "fash"], {"fashion-mnist"}),
    (["train", "--backend", "cu"], {"cupy"}),
    (["completion", "z"], {"zsh"}),
    (["sweep", "swe"], {"sweep.toml"}),
    (["nothing", "x"], set()),
    (["train", "--nothing", "mnist-c"], {"mnist-cnn"}),
]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "expected"), CASES, ids=lambda each: " ".join(each) if isinstance(each, list) else ""
)
def test_words_complete(capsys, monkeypatch, place, shell, words, expected):
    monkeypatch.chdir(place)
    assert set(completed(capsys, monkeypatch, shell, *words)) == expected


def test_values_of_keys_complete(capsys, monkeypatch):
    split = ["train", "--set", "training.algorithm", "=", "b"]  # as bash splits it
    assert completed(capsys, monkeypatch, "bash", *split) == ["bptt"]
    assert completed(capsys, monkeypatch, "bash", *split[:-1]) == ["ep", "bptt"]
    assert completed(capsys, monkeypatch, "bash", *split, "mnist-m") == ["mnist-mlp"]
    assert completed(capsys, monkeypatch, "fish", "train", "--set", "data.flip=t") == ["data.flip=true"]
    for key in known_keys():
        assert isinstance(choices_of(key), tuple)
    assert choices_of("model.layers.3.pool") == ("max", "average", "none") and choices_of("no.key") == ()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_itself(capsys, place, tmp_path):
    script = run(capsys, "completion", "bash")
    assert script.code == 0 and script.err == ""
    (tmp_path / "eqnp").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m eqnp "$@"\n')
    (tmp_path / "eqnp").chmod(0o755)
    test = (
        "complete() { :; }; compopt() { echo compopt $*; }\n" + script.out + "\n"
        'ask() { COMP_WORDS=(eqnp "$@"); COMP_CWORD=$#; COMPREPLY=()\n'
        '_eqnp_completion eqnp; echo "${COMPREPLY[*]}"; }\n'
        "ask train mnist-; ask evaluate runs/f; ask train --set training.epo; ask train --set data.name = fash\n"
    )
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", test], cwd=place, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "compopt -o default",
        "mnist-cnn mnist-mlp",
        "compopt -o dirnames",
        "runs/first",
        "compopt -o nospace",
        "training.epochs=",
        "fashion-mnist",
    ]
    assert done.stderr == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts(capsys, shell):
    result = run(capsys, "completion", shell)
    assert result.code == 0 and f"_EQNP_COMPLETE={shell}_complete" in result.out
    assert run(capsys, "completion", "tcsh").code == 2


def test_a_name_of_a_preset_wins_over_a_folder(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert train_small(capsys, tmp_path / "mine", "--epochs", "0", "--quiet").code == 0
    assert completed(capsys, monkeypatch, "bash", "check", "m") == ["mnist-cnn", "mnist-mlp", "mine"]
    assert len(completed(capsys, monkeypatch, "bash", "check", "")) >= len(presets.names())


# ---- help


def commands(command=eqnp, name="eqnp", parent=None):
    """Yield (words, command) for every command and group."""
    context = click.Context(command, info_name=name, parent=parent)
    yield context.command_path.split(), command
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            yield from commands(command.get_command(context, each), each, context)


COMMANDS = list(commands())


@pytest.mark.parametrize(
    ("words", "command"), COMMANDS, ids=lambda each: " ".join(each) if isinstance(each, list) else ""
)
def test_help_fits_and_has_an_example_that_can_be_parsed(capsys, words, command):
    result = run(capsys, *words[1:], "--help")
    assert result.code == 0
    lines = result.out.splitlines()
    assert all(len(line) <= 80 for line in lines), result.out
    examples = [line.strip() for line in lines if line.startswith("  eqnp ")]
    assert examples, "its help has no example"
    for example in examples:
        parsed = example.partition(" > ")[0].partition(" >> ")[0].split()[1:]
        current = eqnp
        while isinstance(current, click.Group):
            current = current.get_command(click.Context(current), parsed.pop(0))
        current.make_context(example, parsed)


HELP = (
    "import sys, time\nfrom eqnp.cli.main import main\nimport contextlib, io\n"
    "for words in sys.argv[1:]:\n"
    "    with contextlib.redirect_stdout(io.StringIO()):\n"
    "        code = main([*words.split(), '--help'])\n"
    "    assert code == 0, words\n"
    "heavy = {'numpy', 'scipy', 'h5py', 'cupy', 'matplotlib', 'tensorboardX'} & set(sys.modules)\n"
    "print(sorted(heavy), time.process_time())\n"
)


def test_help_is_quick_and_imports_no_numpy():
    """The CPU time of the help of all commands in one process stays below that allowed for one."""
    call = [sys.executable, "-c", HELP, *(" ".join(words[1:]) for words, _ in COMMANDS)]
    loaded, seconds = subprocess.run(call, capture_output=True, text=True, check=True).stdout.rsplit(maxsplit=1)
    assert loaded == "[]" and float(seconds) < 0.3 * 2  # the machine may be half as fast while others use it
