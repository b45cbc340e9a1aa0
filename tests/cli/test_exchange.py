"""Export and import: bit for bit and equal predictions, the published layout, and files that are something else."""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
import tomllib

import hostile
import numpy as np
import published
import pytest
from commands import SMALL_OPTIONS, assert_fails, overrides, run

import eqnp
from eqnp.api.card import MARK
from eqnp.api.exchange import export_run, import_run
from eqnp.cli.main import main
from eqnp.data import load
from eqnp.errors import CheckpointError, ConfigurationError
from eqnp.runs.layouts import from_published, to_published
from eqnp.runs.weights import from_file

DIGITS = load("mnist-small").test_images[:6]
HIDDEN = "model.layers=[{conv=3,kernel=5,pool='max'},{dense=8},{dense=10}]"
NETWORKS = {
    "plain": [],
    "field": overrides("model.kind=vector-field", HIDDEN),
    "dense": overrides("model.layers=[{dense=9},{dense=7},{dense=10}]", "model.kind=vector-field"),
    "double": overrides("training.dtype=float64", "model.loss=squared_error", HIDDEN, "data.validation=10"),
}
TARGETS = [
    ("safetensors", ".safetensors"),
    ("npz", ".npz"),
    ("pytorch", ".safetensors"),
    ("pytorch", ".npz"),
    ("pytorch", ".pt"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run of each network; tests must not change them."""
    folder = tmp_path_factory.mktemp("runs")
    for name, more in NETWORKS.items():
        assert main(["train", "--quiet", "--out", str(folder / name), *SMALL_OPTIONS, "--epochs", "1", *more]) == 0
    return folder


def needs(ending):
    pytest.importorskip({".safetensors": "safetensors", ".pt": "torch"}.get(ending, "numpy"))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("to", "ending"), TARGETS)
def test_a_round_trip_is_bitwise_and_predicts_the_same(runs, tmp_path, name, to, ending):
    needs(ending)
    before = eqnp.open_run(runs / name)
    file, *_ = export_run(before, tmp_path / f"weights{ending}", to)
    source = before.config if ending == ".pt" else None
    import_run(file, tmp_path / "run", source)
    after = eqnp.open_run(tmp_path / "run", checkpoint="last")
    assert list(after.parameters) == list(before.parameters)
    for key, p in before.parameters.items():
        assert p.dtype == after.parameters[key].dtype
        np.testing.assert_array_equal(after.parameters[key], p, err_msg=key)
    np.testing.assert_array_equal(after.outputs(DIGITS), before.outputs(DIGITS))
    export_run(after, tmp_path / f"again{ending}", to, card=False)
    for key, a in from_file(file)[0].items():
        np.testing.assert_array_equal(from_file(tmp_path / f"again{ending}")[0][key], a)


@pytest.mark.parametrize("path", published.paths(), ids=lambda path: path.stem)
def test_the_published_layout_is_that_of_the_published_arrays(path):
    if not published.model(path).endswith(("MLP", "CNN")):
        pytest.skip("another kind of network")
    fixture = published.read(path)
    parameters = fixture.group("param")
    state = to_published(fixture.architecture, parameters)
    with np.load(path) as raw:
        for key in (key for key in raw.files if key.startswith("param/")):
            name = key.removeprefix("param/").replace("forward.", "synapses.").replace("backward.", "B_syn.")
            np.testing.assert_array_equal(state.pop(name), raw[key], err_msg=name)
    assert not state
    back = from_published(fixture.architecture, to_published(fixture.architecture, parameters))
    for name, p in parameters.items():
        np.testing.assert_array_equal(back[name], p, err_msg=name)


def test_a_checkpoint_of_the_published_code_is_read(runs, tmp_path):
    torch = pytest.importorskip("torch")
    before = eqnp.open_run(runs / "field")
    state = to_published(before.network.architecture, before.parameters)
    tensors = {name: torch.from_numpy(a) for name, a in state.items()}
    torch.save({"model_state_dict": tensors, "opt": {"state": {}}, "epoch": 3}, tmp_path / "checkpoint.tar")
    import_run(tmp_path / "checkpoint.tar", tmp_path / "run", before.config)
    after = eqnp.open_run(tmp_path / "run", checkpoint="last")
    np.testing.assert_array_equal(after.outputs(DIGITS), before.outputs(DIGITS))

    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"synapses.0.weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="damaged or not"):
        from_file(tmp_path / "evil.pt")


def test_without_pytorch_or_safetensors_their_packages_are_named(capsys, runs, tmp_path, monkeypatch):
    (tmp_path / "a.pt").write_bytes(b"PK")
    (tmp_path / "a.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for words in (
        ["export", runs / "plain", "--out", tmp_path / "b.pt"],
        ["import", tmp_path / "a.pt", "--out", tmp_path / "run"],
    ):
        assert_fails(run(capsys, *words), 4, "pip install torch", ".safetensors")
    for words in (
        ["export", runs / "plain", "--out", tmp_path / "b.safetensors"],
        ["import", tmp_path / "a.safetensors", "--out", tmp_path / "run"],
    ):
        assert_fails(run(capsys, *words), 4, "pip install safetensors", "npz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt", "a.safetensors"]


def test_the_commands_round_trip_and_the_run_can_be_trained_on(capsys, runs, tmp_path):
    (tmp_path / "out").mkdir()
    file = tmp_path / "out" / "w.npz"
    result = run(capsys, "export", runs / "plain", "--out", file)
    assert result.code == 0 and str(file) in result.out and "README.md" in result.out
    result = run(capsys, "import", file, "--out", tmp_path / "run", "--set", "dynamics.T1=5")
    assert result.code == 0 and "--checkpoint last" in result.out
    assert run(capsys, "evaluate", tmp_path / "run", "--checkpoint", "last").code == 0
    assert tomllib.loads((tmp_path / "run" / "config.toml").read_text())["dynamics"]["T1"] == 5
    assert run(capsys, "train", "--resume", tmp_path / "run", "--quiet").code == 0


def test_the_card_says_what_the_weights_are(runs, tmp_path):
    for name in ("plain", "double"):
        (tmp_path / name).mkdir()
        opened = eqnp.open_run(runs / name)
        _, card = export_run(opened, tmp_path / name / "weights.npz")
        text = card.read_text()
        assert text.startswith("---\nlibrary_name: eqnp\n") and MARK in text
        error = opened.metrics[0]["train_error_percent"]
        for word in ("CC BY-SA 3.0", "eqnp import weights.npz", "conv 3, 5x5", f"{error:.2f}", "(these weights)"):
            assert word in text, word
        (toml,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
        assert tomllib.loads(toml)["training"]["seed"] == 0
    assert "Test error of best.h5" in text  # it has a validation set


def test_an_export_holds_no_path_of_this_machine(runs, tmp_path):
    opened = eqnp.open_run(runs / "plain")
    file, card = export_run(opened, tmp_path / "weights.npz")
    config = tomllib.loads(from_file(file)[1]["config"])
    assert config["data"]["folder"] == "" and str(tmp_path.parent) not in card.read_text()


def test_files_that_exist_are_kept(capsys, runs, tmp_path):
    file, readme = tmp_path / "w.npz", tmp_path / "README.md"
    readme.write_text("# My project")
    assert_fails(run(capsys, "export", runs / "plain", "--out", file), 2, "README.md", "no model card", "--no-card")
    assert_fails(run(capsys, "export", runs / "plain", "--out", file, "--force"), 2, "README.md", "no model card")
    assert run(capsys, "export", runs / "plain", "--out", file, "--no-card").code == 0
    assert readme.read_text() == "# My project"
    readme.unlink()
    assert_fails(run(capsys, "export", runs / "plain", "--out", file), 2, "exists", "--force")
    assert run(capsys, "export", runs / "plain", "--out", file, "--force").code == 0
    assert_fails(run(capsys, "export", runs / "plain", "--out", tmp_path / "b.npz"), 2, "model card exists", "--force")
    assert run(capsys, "export", runs / "field", "--out", tmp_path / "b.npz", "--force").code == 0
    assert "vector field" in readme.read_text()


def altered(path, **changes):
    """Write an npz file with changed arrays; None removes one."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files} | changes
    np.savez(path, **{name: a for name, a in arrays.items() if a is not None})
    return path


def test_what_cannot_be_imported_is_one_line(capsys, runs, tmp_path):
    file = export_run(eqnp.open_run(runs / "plain"), tmp_path / "w.npz", card=False)[0]
    layout, note = tmp_path / "l.npz", json.loads(str(np.load(file)["__eqnp__"]))
    export_run(eqnp.open_run(runs / "plain"), layout, "pytorch", card=False)
    for name, data in (("a.npz", b"no"), ("a.safetensors", b"no" * 30), ("a.bin", b"")):
        (tmp_path / name).write_bytes(data)
    with open(tmp_path / "p.npz", "wb") as pickled:
        pickle.dump({"a": 1}, pickled)
    weight, bias = "readout.weight", "readout.bias"
    nan = np.full(10, np.nan, np.float32)
    copies = iter(tmp_path / f"c{k}.npz" for k in range(20))

    def copy(of=file, **changes):
        path = next(copies)
        path.write_bytes(of.read_bytes())
        return altered(path, **changes)

    for path, more, code, words in (
        (tmp_path / "none.npz", [], 5, ["no such file"]),
        (tmp_path, [], 5, ["is a folder"]),
        (tmp_path / "a.npz", [], 5, ["damaged or not a .npz"]),
        (tmp_path / "p.npz", [], 5, ["damaged or not a .npz"]),
        (tmp_path / "a.bin", [], 5, [".safetensors", ".npz", ".pt"]),
        (copy(**{weight: None}), [], 5, [weight, "missing"]),
        (copy(more=nan), [], 5, ["no more"]),
        (copy(**{bias: nan}), [], 5, [bias, "NaN"]),
        (copy(**{bias: np.zeros(11, np.float32)}), [], 5, [bias, "(11,)", "(10,)"]),
        (copy(**{bias: np.zeros(10, np.float16)}), [], 5, [bias, "float16"]),
        (copy(layout, **{"synapses.1.bias": np.zeros(3, np.float32)}), [], 5, ["synapses.1.bias", "(3,)", "(10,)"]),
        (copy(layout, **{"synapses.7.bias": nan}), [], 5, ["synapses.7.bias"]),
        (copy(layout, **{"synapses.0.weight": None}), [], 5, ["synapses.0.weight is missing"]),
        (copy(__eqnp__=None), [], 2, ["no configuration", "--config"]),
        (copy(__eqnp__=np.array(json.dumps(note | {"config": "a = ["}))), [], 2, ["its configuration"]),
        (file, ["--config", "digits"], 5, ["forward.0.weight", "--config"]),
        (file, ["--set", "training.dtype=float64"], 5, ["--set training.dtype=float32"]),
        (file, ["--set", "model.nonsense=1"], 2, ["nonsense"]),
        (file, ["--config", "digitz"], 2, ["digits"]),
    ):
        assert_fails(run(capsys, "import", path, "--out", tmp_path / "run", *more), code, *words)
    pytest.importorskip("safetensors")
    assert_fails(run(capsys, "import", tmp_path / "a.safetensors", "--out", tmp_path / "run"), 5, "damaged or not")
    assert not (tmp_path / "run").exists()
    assert_fails(run(capsys, "import", file, "--out", runs / "plain"), 2, "has a run already")


def test_what_cannot_be_exported_is_one_line(capsys, runs, tmp_path):
    plain = runs / "plain"
    for words, code, message in (
        ([plain, "--out", tmp_path / "a.bin"], 2, [".safetensors", ".npz"]),
        ([plain, "--out", tmp_path / "a.npz", "--to", "safetensors"], 2, ["--to safetensors", ".safetensors"]),
        ([plain, "--out", tmp_path / "a.h5", "--to", "pytorch"], 2, [".pt", ".pth"]),
        ([plain, "--out", tmp_path / "no" / "a.npz"], 8, ["no such folder"]),
        ([tmp_path, "--out", tmp_path / "a.npz"], 2, ["not a run folder"]),
        ([plain], 2, ["--out"]),
    ):
        assert_fails(run(capsys, "export", *words), code, *message)
    assert not list(tmp_path.iterdir())


def test_a_network_that_the_published_code_cannot_have_is_refused():
    class Skipping:
        layers, feedback = (eqnp.DenseLayer(3), eqnp.DenseLayer(2)), 1.0

        def parameter_shapes(self):
            return {"forward.0.weight": (4, 3), "forward.0-2.weight": (4, 2)}

    with pytest.raises(ConfigurationError, match=r"forward\.0-2\.weight.*safetensors or npz"):
        to_published(Skipping(), {})


# ---- files that mean harm


def test_an_archive_that_unpacks_to_far_more_is_refused(capsys, tmp_path):
    """No weights are so regular; and the list of an archive may itself be endless."""
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, weight=np.zeros(30_000_000, np.uint8))
    assert_fails(run(capsys, "import", path, "--out", tmp_path / "run"), 5, "bomb.npz: would unpack from 0.029")
    path.write_bytes(hostile.long_directory(1_000_000))
    assert_fails(
        run(capsys, "import", path, "--out", tmp_path / "run"), 5, "bomb.npz: damaged", "its directory has more"
    )
    assert not (tmp_path / "run").exists()


def test_memory_that_is_short_is_no_damage(capsys, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise MemoryError

    np.savez(tmp_path / "a.npz", weight=np.zeros(3))
    monkeypatch.setattr(np, "load", fail)
    assert run(capsys, "import", tmp_path / "a.npz", "--out", tmp_path / "run").code == 7


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
@pytest.mark.parametrize("kind", ["a pipe", "/dev/zero", "large"])
def test_a_card_that_is_no_file_neither_blocks_nor_fills_memory(runs, tmp_path, kind):
    card = tmp_path / "README.md"
    if kind == "a pipe":
        os.mkfifo(card)
    elif kind == "/dev/zero":
        card.symlink_to("/dev/zero")
    else:
        card.write_text(MARK + "x" * 1_000_000)
    with pytest.raises(ConfigurationError, match="is no model card that eqnp wrote"):
        export_run(eqnp.open_run(runs / "plain"), tmp_path / "w.npz", "npz")
