"""``eqnp show``: the page holds what the network did, needs nothing else, and works in a browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from commands import SMALL_OPTIONS, assert_fails, overrides, run
from learners import batch, learner

import eqnp
from eqnp.analysis.energy import energy
from eqnp.analysis.scenes import FRAMES, chosen_steps, packed, record_scenes, zero_runs
from eqnp.cli.main import main
from eqnp.contrasts import nudged_network, vector_field_contrast
from eqnp.data import load
from eqnp.dynamics import relax
from eqnp.losses import one_hot, softmax
from eqnp.prepared import PreparedNetwork
from eqnp.training import initial_state

IMAGES = load("mnist-small").test_images
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the runs ``plain`` and ``field``; tests must not change them."""
    folder = tmp_path_factory.mktemp("runs")
    layers = "model.layers=[{conv=3,kernel=5,pool='max'},{dense=8},{dense=10}]"
    field = overrides("model.kind=vector-field", layers, "dynamics.tolerance=1e-3", "dynamics.T1=90")
    for name, more in (("plain", overrides("dynamics.T1=70", "dynamics.T2=6")), ("field", field)):
        assert main(["train", "--quiet", "--out", str(folder / name), *SMALL_OPTIONS, *more, "--epochs", "1"]) == 0
    return folder


def content(path):
    """Return the data of a page."""
    (text,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL
    )
    return json.loads(text)


def unpacked(text, units):
    """Return frames (F, units) uint8 of what ``packed`` wrote, by a loop."""
    raw, out = base64.b64decode(text), []
    k = 0
    while k < len(raw):
        out += [0] * raw[k + 1] if raw[k] == 0 else [raw[k]]
        k += 2 if raw[k] == 0 else 1
    return np.cumsum(np.reshape(out, (-1, units)), axis=0) % 256


def test_bytes_come_back():
    rng = np.random.default_rng(0)
    for size in (0, 1, 254, 255, 256, 700):
        for share in (0, 0.01, 0.5, 1):
            data = ((rng.random((3, size)) < share) * rng.integers(1, 256, (3, size))).astype(np.uint8)
            if size:
                np.testing.assert_array_equal(unpacked(packed(data), size), data)
    assert zero_runs(np.zeros(600, np.uint8)) == bytes([0, 255, 0, 255, 0, 90])


@pytest.mark.parametrize("name", ["plain", "field"])
def test_the_page_holds_what_the_network_did(capsys, runs, tmp_path, name):
    out = tmp_path / "page.html"
    result = run(capsys, "show", runs / name, "--out", out, "--samples", "4,7")
    assert result.code == 0 and f"page in {out}: 2 samples" in result.out
    page, opened = content(out), eqnp.open_run(runs / name)
    network, parameters, d = opened.network, opened.parameters, opened.config.dynamics
    x = (IMAGES[[4, 7]] / np.float32(255)).astype(np.float32)
    path = {}
    labels = load("mnist-small").test_labels[[4, 7]]
    free = eqnp.relax(
        network,
        parameters,
        x,
        eqnp.Phase(d.T1, d.tolerance),
        observe=lambda t, s: path.update({t: [a.copy() for a in s]}),
    )
    plus = eqnp.relax(network, parameters, x, eqnp.Phase(d.T2, d.tolerance), states=free.states, beta=d.beta, y=labels)
    for n, sample in enumerate(page["samples"]):
        assert (sample["index"], sample["label"]) == ([4, 7][n], labels[n])
        phase = sample["phases"]["free"]
        assert phase["steps"][0] == 0 and phase["steps"][-1] == free.steps and len(phase["steps"]) <= FRAMES["free"] + 2
        for k, layer in enumerate(page["layers"]):
            frames = unpacked(phase["layers"][k]["data"], layer["maps"] * layer["height"] * layer["width"])
            states = layer["low"] + frames / 255 * (layer["high"] - layer["low"])
            assert "all" in layer["note"]
            for f, t in enumerate(phase["steps"][1:], start=1):
                s = path[t][k][n]
                expected = s if s.ndim == 1 else s.transpose(2, 0, 1)
                assert abs(states[f] - expected.ravel()).max() <= (layer["high"] - layer["low"]) / 400
            nudged = sample["phases"]["plus"]["layers"][k]
            end = unpacked(nudged["data"], frames.shape[1])[-1] / 255 * 2 - 1
            change = (plus.states[k] - free.states[k])[n]
            change = change if change.ndim == 1 else change.transpose(2, 0, 1)
            assert abs(nudged["scale"] * end - change.ravel()).max() <= nudged["scale"] / 200 + 1e-7
        scores = softmax(network.outputs(parameters, free.states))[n]
        np.testing.assert_allclose(phase["scores"][-1], scores, rtol=1e-4, atol=1e-6)
        assert phase["residual"][0] is None
        found = energy(network, parameters, x, free.states)
        assert page["hasEnergy"] == (found is not None) == (name == "plain")
        if found is not None:
            np.testing.assert_allclose(phase["energy"][-1], found[n], rtol=1e-4)
        assert [sample["phases"][each]["beta"] for each in ("plus", "minus")] == [d.beta, -d.beta]


def test_the_page_needs_nothing_else(capsys, runs, tmp_path):
    out = tmp_path / "page.html"
    assert run(capsys, "show", runs / "plain", "--out", out, "--samples", "0").code == 0
    text = out.read_text("utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|src=|@import|url\(|<link", text)
    assert len(text) < 3_000_000


def test_without_a_choice_it_shows_one_image_of_each_class(capsys, runs, tmp_path):
    assert run(capsys, "show", runs / "plain", "--out", tmp_path / "a.html", "--split", "train").code == 0
    samples = content(tmp_path / "a.html")["samples"]
    assert [sample["label"] for sample in samples] == list(range(10))


def test_a_large_network_gives_a_small_page(capsys, tmp_path):
    layers = "model.layers=[{conv=40,kernel=3},{conv=40,kernel=3},{dense=300},{dense=10}]"
    words = [
        *SMALL_OPTIONS,
        *overrides(layers, "training.epochs=0", "dynamics.T1=60", "dynamics.T2=30", "model.gain=3"),
    ]
    assert run(capsys, "train", "--quiet", "--out", tmp_path / "run", *words).code == 0
    result = run(capsys, "show", tmp_path / "run", "--checkpoint", "last", "--out", tmp_path / "a.html")
    assert result.code == 0 and (tmp_path / "a.html").stat().st_size < 3_000_000
    notes = [layer["note"] for layer in content(tmp_path / "a.html")["layers"]]
    assert "most active of 40 maps" in notes[0] and "256 most active of 300 units" in notes[2]


def test_steps_are_all_kept_or_grow_sparser():
    assert chosen_steps(5, 10) == [1, 2, 3, 4, 5]
    steps = chosen_steps(250, 60)
    assert len(steps) <= 60 and steps[:30] == list(range(1, 31)) and steps[-1] == 250
    assert (np.diff(np.diff(steps[30:])) >= -1).all()


def test_mistakes_are_one_line(capsys, runs, tmp_path):
    (tmp_path / "a.html").write_text("taken")
    plain = runs / "plain"
    for words, code, message in (
        ([plain, "--out", tmp_path / "a.html"], 2, ["exists", "--force"]),
        ([plain, "--out", tmp_path / "a.png"], 2, [".html"]),
        ([plain, "--out", tmp_path / "no" / "a.html"], 8, ["no such folder"]),
        ([plain, "--out", tmp_path / "b.html", "--samples", "0:1000"], 2, ["--samples", "39"]),
        ([tmp_path, "--out", tmp_path / "b.html"], 2, ["not a run folder"]),
        ([plain, "--out", tmp_path / "b.html", "--split", "validation"], 2, ["validation"]),
    ):
        assert_fails(run(capsys, "show", *words), code, *message)
    assert (tmp_path / "a.html").read_text() == "taken"


DRIVE = """<script>
const press = key => document.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const seen = [], see = () => seen.push(document.getElementById("where").textContent);
press("ArrowRight"); press("ArrowRight"); see(); press("ArrowLeft"); see();
const slider = document.getElementById("slider"); slider.value = 4; slider.dispatchEvent(new Event("input")); see();
document.querySelectorAll("#images button")[2].click();
press(" "); see(); seen.push(document.getElementById("play").textContent); press(" ");
const alone = [...document.querySelectorAll("main canvas, #curves canvas")].filter(c => !c.getAttribute("aria-label"));
document.body.append("SEEN " + seen.join("; ") + "; " + alone.length + " without a text; " +
  document.getElementById("input").getAttribute("aria-label") + " END");
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_keys_slider_and_images_of_the_page(capsys, runs, tmp_path):
    path = tmp_path / "a.html"
    assert run(capsys, "show", runs / "plain", "--out", path, "--samples", "0:3").code == 0
    name = content(path)["samples"][2]["name"]
    path.write_text(path.read_text("utf-8").replace("</body>", DRIVE + "</body>"), "utf-8")
    words = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*words, "--virtual-time-budget=500", "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=60
    )
    (seen,) = re.findall(r"</script>SEEN (.*?) END\s", done.stdout, re.DOTALL)
    steps = "free phase, step 2 of 70; free phase, step 1 of 70; free phase, step 4 of 70; free phase, step 4 of 70"
    assert seen == f"{steps}; ❚❚ Pause; 0 without a text; image 2: {name}"


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_the_page_works_in_a_browser(capsys, runs, tmp_path):
    shutil.copytree(runs / "plain", tmp_path / "<b>&")
    assert run(capsys, "show", tmp_path / "<b>&", "--out", tmp_path / "a.html", "--samples", "0:3").code == 0
    phase = content(tmp_path / "a.html")["samples"][1]["phases"]["free"]
    words = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    address = f"{(tmp_path / 'a.html').as_uri()}#image=1&at={len(phase['steps']) + 1}"
    done = subprocess.run(
        [*words, "--virtual-time-budget=2000", "--dump-dom", address], capture_output=True, text=True, timeout=60
    )
    page = done.stdout
    assert "How &lt;b&gt;&amp; settles" in page
    assert "β = 0.5, step 1 of 6" in page and "change from the free state" in page
    assert 'aria-pressed="true"' in page and re.search(r"says \d", page)
    assert "Uncaught" not in done.stderr


def test_nudged_phases_are_those_of_the_contrast():
    """As in the states that ``eqnp states`` writes."""
    made = learner(["model.kind=vector-field", "training.nudging=asymmetric", "dynamics.T2=6"])
    parameters, (x, labels) = initial_state(made, 1.0, "float32").parameters, batch(3)
    _, found = record_scenes(made, parameters, x, labels)
    _, plain = record_scenes(replace(made, contrast=vector_field_contrast), parameters, x, labels)
    target, prepared = one_hot(labels, 10, x.dtype), PreparedNetwork(made.network, parameters, x)
    free = relax(prepared, None, made.phases.free).states
    network, start = nudged_network(made.contrast, prepared, free)
    last = relax(network, start, made.phases.nudged, made.beta, target)
    assert found["plus"].residual[-1].max() == last.residual != plain["plus"].residual[-1].max()
