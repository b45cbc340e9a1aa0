"""A catalogue of mistakes with the commands around a run: each is one line that names the cure, and writes nothing.

Mistakes in options, settings and words of `eqnp train` are in test_mistakes.py.
"""

from __future__ import annotations

import shlex
import shutil

import numpy as np
import pytest
from commands import SMALL_OPTIONS, assert_fails, run

from eqnp.cli.main import main


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """A folder with runs, data, weights and files that are none of these."""
    folder = tmp_path_factory.mktemp("things")
    done = folder / "done"
    assert main(["train", "--quiet", "--out", str(done), *SMALL_OPTIONS, "--epochs", "1"]) == 0
    shutil.copytree(done, folder / "young")
    (folder / "young" / "best.h5").unlink()
    (folder / "young" / "metrics.csv").unlink()
    (folder / "plain").mkdir()
    weights = {"synapses.0.weight": np.zeros((4, 1, 5, 5), np.float32)}
    np.savez(folder / "theirs.npz", **weights)
    np.savez(folder / "objects.npz", a=np.array([object()]))
    assert main(["export", str(done), "--out", str(folder / "w.npz"), "--no-card"]) == 0
    np.save(folder / "one.npy", np.zeros((28, 28), np.uint8))
    for name, text in (
        ("text.txt", "hello"),
        ("text.npz", "hello"),
        ("taken.html", "taken"),
        ("taken.png", "taken"),
        ("bad.toml", "x = ["),
        ("typ.toml", 'base = "digits"\n[training]\nepochs = "three"\n'),
        ("big.toml", 'base = "digits"\n[model]\nlayers = [{ conv = 3, kernel = 40 }, { dense = 10 }]\n'),
    ):
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def here(things, tmp_path, monkeypatch):
    """The same in a folder to work in."""
    shutil.copytree(things, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


# command, exit code, essential words
BEFORE = [
    ("summary dgits", 2, ["'digits'", "eqnp presets"]),
    ("summary nothere.toml", 2, ["nothere.toml: there is no such file", "eqnp config init"]),
    ("summary plain", 2, ["not a run folder", "`eqnp train`"]),
    ("summary bad.toml", 2, ["bad.toml: not TOML"]),
    ("summary typ.toml", 2, ["typ.toml: training.epochs", "whole number", "'three'"]),
    ("summary big.toml", 2, ["40x40", "28x28"]),
    ("summary w.npz", 2, ["w.npz: is data", "--set data.name=npz --set data.file=w.npz"]),
    ("summary --time", 2, ["did you mean --no-time?"]),
    ("summary --json", 2, ["no option --json", "`eqnp train` has it"]),
    ("summary digits mnist-mlp", 2, ["unexpected 'mnist-mlp'", "RUN"]),
    ("summary --batch-size 0", 2, ["--batch-size", "x>=1"]),
    ("summary --set training.batch=3", 2, ["'training.batch_size'"]),
    ("summary --backend gpu", 2, ["'numpy', 'cupy', 'auto'"]),
    ("summary --device 1", 2, ["add --backend cupy"]),
    ("config shwo", 2, ["'show'"]),
    ("config new", 2, ["'init'"]),
    ("config validate typ.toml", 2, ["'check'"]),
    ("config show dgits", 2, ["'digits'"]),
    ("config show plain", 2, ["not a run folder"]),
    ("config show --origins", 2, ["did you mean --origin?"]),
    ("config show --out x.toml", 2, ["`> x.toml`"]),
    ("config show --checkpoint best", 2, ["`eqnp evaluate` has it"]),
    ("config show --set training.epochs=x", 2, ["training.epochs", "'x'"]),
    ("config check", 2, ["CONFIG.toml", "for example `eqnp config check mine.toml`"]),
    ("config check done", 2, ["is a folder", "done/config.toml"]),
    ("config check digits", 2, ["is a preset", "eqnp config show digits"]),
    ("config check bad.toml", 2, ["bad.toml: not TOML"]),
    ("config check typ.toml", 2, ["training.epochs", "'three'"]),
    ("config check w.npz", 2, ["not a text file", "TOML"]),
    ("config init plain", 2, ["is a folder", "the name of a file"]),
    ("config init typ.toml", 2, ["exists", "--force"]),
    ("config init --out x.toml", 2, ["`eqnp config init x.toml`"]),
    ("config init x.toml --preset dgits", 2, ["'digits'"]),
    ("config init no/x.toml", 8, ["no such folder", "make the folder first"]),
    ("data shwo mnist-small", 2, ["'show'"]),
    ("data download mnist", 2, ["'fetch'"]),
    ("data show", 2, ["NAME | FILE.npz", "for example `eqnp "]),
    ("data show mnist-smal", 2, ["'mnist-small'"]),
    ("data show nothere.npz", 3, ["nothere.npz: there is no such file"]),
    ("data show text.npz", 3, ["text.npz: damaged or not a .npz file"]),
    ("data show plain", 3, ["plain/train", "train/CLASS and test/CLASS"]),
    ("data show mnist-small --out x.gif", 2, [".png, .svg, .pdf"]),
    ("data show mnist-small --out taken.png", 2, ["exists", "--force"]),
    ("data show mnist-small --split validation", 2, ["--set data.validation=0.1"]),
    ("data show mnist-small --count 0", 2, ["--count", "1<=x<=1000"]),
    ("data show done --out no/x.png", 8, ["make the folder first"]),
    ("data fetch", 2, ["NAME", "for example `eqnp data fetch mnist`"]),
    ("data fetch minst", 2, ["did you mean 'mnist'?"]),
    ("data fetch npz", 2, ["choose one of mnist"]),
    ("data list mnist", 2, ["unexpected 'mnist'", "no arguments"]),
    ("train w.npz", 2, ["--set data.name=npz --set data.file=w.npz"]),
    ("train --patience 3", 2, ["--set training.patience=3"]),
    ("train --max-minutes 5", 2, ["--set training.max_minutes=5"]),
    ("train --check-every 2", 2, ["--set training.check_every=2"]),
    ("train --validation 0.1", 2, ["--set data.validation=0.1"]),
    ("train --set training.patience=-1", 2, ["training.patience", "from 0"]),
    ("train --set training.max_minutes=abc", 2, ["training.max_minutes", "'abc'"]),
    ("train --set data.validation=1.5", 2, ["a fraction below 1 nor a whole number"]),
    ("train --set data.validation=2000000", 2, ["of 5000 training samples", "give 1 to 4999"]),
    ("train --set data.name=npz", 2, ["--set data.file=FILE.npz"]),
    ("train --set data.name=npz --set data.file=no.npz", 3, ["no.npz: there is no such file"]),
    ("train --set data.name=folder", 2, ["--set data.folder=FOLDER"]),
    ("train --set data.name=cifar", 2, ["'cifar10'"]),
    ("train --set data.resize=32", 2, ["data.name = folder"]),
    ("train --jsn", 2, ["--json"]),
    ("train --tensorbord", 2, ["--tensorboard"]),
    ("train --dryrun", 2, ["--dry-run"]),
    ("train --float64", 2, ["--dtype float64"]),
    ("train --resume", 2, ["'--resume' requires"]),
    ("train --resume digits", 2, ["is a preset", "`eqnp train digits --out runs/digits`"]),
    ("train --resume done digits", 2, ["give no PRESET"]),
    ("train --set training.estimator=circle", 2, ["not holomorphic", "sigmoid, tanh or linear"]),
    ("train --set training.nudging=asymmetric", 2, ["model.kind = vector-field"]),
]
AFTER = [
    ("plot", 2, ["RUN...", "for example `eqnp plot runs/a"]),
    ("plot nothere", 2, ["no such folder", "`eqnp train`"]),
    ("plot digits --out x.png", 2, ["is a preset", "`eqnp train digits"]),
    ("plot done --out x.jpg", 2, [".png, .svg or .pdf"]),
    ("plot done --out taken.png", 2, ["exists", "--force"]),
    ("plot done --what loss --out x.png", 2, ["'curves', 'activity'"]),
    ("plot done young --out x.png", 2, ["young: no epoch is finished", "--resume young"]),
    ("plot done --output x.png", 2, ["did you mean --out?"]),
    ("plot done --format svg", 2, ["the ending of --out says the format"]),
    ("plot done --width 0 --out x.png", 2, ["--width", "2<=x<=40"]),
    ("plot done/metrics.csv --out x.png", 2, ["is a file, not a run folder"]),
    ("report digits", 2, ["is a preset"]),
    ("report done --csv", 2, ["did you mean --format csv?"]),
    ("report done --latex", 2, ["did you mean --format latex?"]),
    ("report done --out x.html", 2, ["--html x.html"]),
    ("report done --html", 2, ["'--html' requires"]),
    ("report done --html taken.html", 2, ["exists", "--force"]),
    ("report done --format html", 2, ["'text', 'markdown', 'csv', 'latex'"]),
    ("show digits --out x.html", 2, ["is a preset"]),
    ("show done --out x.png", 2, ["ends in .html"]),
    ("show done --out x.html --sample 3", 2, ["did you mean --samples?"]),
    ("show done --out x.html --samples 5000", 2, ["5000 is outside 0 to 39"]),
    ("show done --out x.html --samples a:b", 2, ["3 or 0:10"]),
    ("show done --out x.html --split validation", 2, ["no samples are held out", "data.validation"]),
    (
        "show done --out x.html --set model.activation=tanh",
        2,
        ["cannot be", "for a new run: `eqnp train done/config.toml"],
    ),
    ("show young --out x.html", 5, ["best.h5", "--checkpoint last"]),
    ("predict done", 2, ["IMAGE...", "for example `eqnp predict runs/mlp seven.png`"]),
    ("predict digits one.npy", 2, ["is a preset"]),
    ("predict one.npy done", 2, ["one.npy: is a file, not a run folder"]),
    ("predict done nothere.png", 3, ["nothere.png: there is no such file"]),
    ("predict done text.txt", 3, ["text.txt: not an image", ".png"]),
    ("predict done one.npy --jason", 2, ["did you mean --json?"]),
    ("predict done one.npy --out x.json", 2, ["`> x.json`"]),
    ("predict done one.npy --checkpoint first", 2, ["'best', 'last'"]),
    ("predict young one.npy", 5, ["--checkpoint last"]),
    ("export done", 2, ["'--out'", "for example `eqnp export runs/mlp --out"]),
    ("export done x.npz", 2, ["'--out'", "for example"]),
    ("export digits --out x.npz", 2, ["is a preset"]),
    ("export done --out x.bin", 2, [".safetensors, .npz or .pt"]),
    ("export done --out x.npz --to onnx", 2, ["'safetensors', 'npz', 'pytorch'"]),
    ("export done --out w.npz", 2, ["exists", "--force"]),
    ("export done --out no/x.npz", 8, ["make the folder first"]),
    ("import w.npz", 2, ["'--out'", "for example `eqnp import"]),
    ("import nothere.npz --out new", 5, ["nothere.npz: there is no such file"]),
    ("import w.npz --out done", 2, ["has a run already", "another --out"]),
    ("import text.npz --out new", 5, ["text.npz: damaged or not a .npz file"]),
    ("import objects.npz --out new", 5, ["objects.npz: damaged or not a .npz file of arrays alone"]),
    ("import text.txt --out new", 5, [".safetensors, .npz, .pt"]),
    ("import theirs.npz --out new --config mnist-mlp", 5, ["(4, 1, 5, 5)", "--config names another"]),
    ("import theirs.npz --out new --config nope", 2, ["no preset 'nope'", "eqnp presets"]),
    ("import w.npz --out new --to npz", 2, ["`eqnp export` has it"]),
    ("import done --out new", 5, ["done: is a folder, not a file"]),
    ("completion", 2, ["bash, zsh, fish", "for example `eqnp completion bash"]),
    ("completion tcsh", 2, ["'bash', 'zsh', 'fish'"]),
    ("completion bash zsh", 2, ["unexpected 'zsh'"]),
    ("presets dgits", 2, ["'digits'"]),
    ("presets digits --out x.toml", 2, ["`> x.toml`"]),
    ("presets digits --picture x.txt", 2, [".svg, .png or .pdf"]),
    ("evaluate digits", 2, ["is a preset"]),
    ("evaluate done --last", 2, ["did you mean --checkpoint last?"]),
    ("evaluate done --split val", 2, ["'test', 'train', 'validation'"]),
    ("check nothere", 2, ["no preset 'nothere'"]),
    ("check done --samples 0:9999", 2, ["outside 0 to 39"]),
    ("check done --plots pdf", 2, ["'png', 'svg', 'none'"]),
    ("check done --out text.txt", 2, ["is a file, not a folder"]),
    ("states done", 2, ["'--out'", "for example `eqnp states"]),
    ("states done --out x.h5 --steps 99", 2, ["--steps 99", "outside 0 to 4"]),
    ("states digits --out x.h5", 2, ["is a preset"]),
    ("bench --runs 0", 2, ["--runs", "x>=1"]),
    ("bench --out no/x.json", 8, ["make the folder first"]),
    ("doctor --json", 2, ["`eqnp train` has it"]),
]


@pytest.mark.parametrize(("command", "code", "words"), BEFORE + AFTER, ids=[each[0] for each in BEFORE + AFTER])
def test_a_mistake_is_one_line_that_names_the_cure(capsys, here, command, code, words):
    before = {path: path.read_bytes() if path.is_file() else None for path in here.rglob("*")}
    assert_fails(run(capsys, *shlex.split(command)), code, *words)
    assert {path: path.read_bytes() if path.is_file() else None for path in here.rglob("*")} == before


def test_what_numpy_says_of_pickles_is_not_passed_on(capsys, here):
    for name in ("text.npz", "objects.npz"):
        assert "pickle" not in run(capsys, "import", name, "--out", "new").err
