"""The model card beside exported weights: what they are, their use, data and its licence, metrics, configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from eqnp import __version__
from eqnp.api.results import progress_of
from eqnp.api.run import Run
from eqnp.runs.config import Config
from eqnp.runs.configfile import to_toml
from eqnp.runs.runfolder import RunFolder

CARD = "README.md"
MARK = "<!-- a model card by eqnp -->"
PAPER = "https://arxiv.org/abs/2006.03824"
# What the authors of the published datasets say about their use.
LICENCES = {
    "mnist-small": "CC BY-SA 3.0 (a part of MNIST)",
    "mnist": "CC BY-SA 3.0",
    "fashion-mnist": "MIT",
    "cifar10": "its authors state none",
}
_LIBRARIES = {".npz": "numpy", ".safetensors": "safetensors"}


def model_card(run: Run, file: str, to: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Return the text of a model card for the weights of a run that ``file`` holds in the format ``to``."""
    lines = [*_front_matter(run), "", MARK, "", *_about(run), *_use(run, file, to), *_data(run), *_metrics(run)]
    return "\n".join([*lines, *_names(arrays), *_configuration(run), *_environment(run)]) + "\n"


def _front_matter(run: Run) -> list[str]:
    """Return the block that hubs of models read."""
    data = run.config.data.name
    dataset = ["datasets:", f"- {'mnist' if data == 'mnist-small' else data}"] if data in LICENCES else []
    return [
        "---",
        "library_name: eqnp",
        "pipeline_tag: image-classification",
        "tags:",
        "- equilibrium-propagation",
        "- energy-based-model",
        *dataset,
        "---",
    ]


def _about(run: Run) -> list[str]:
    config, architecture = run.config, run.network.architecture
    count = sum(p.size for p in run.parameters.values())
    kind = "a vector field (separate backward weights)" if architecture.vector_field else "symmetric"
    kind += "" if architecture.feedback == 1 else f", feedback {architecture.feedback:g}"
    method = "backpropagation through time" if config.training.algorithm == "bptt" else (
        f"Equilibrium Propagation, {config.training.estimator} estimator, beta {config.dynamics.beta:g}"
    )  # fmt: skip
    return [
        f"# {config.name}",
        "",
        *([config.description, ""] if config.description else []),
        f"A convergent recurrent network of {len(architecture.layers)} layers, trained by {method} "
        f"([the method]({PAPER})) with eqnp {__version__}.",
        "",
        "| | |",
        "|---|---|",
        f"| input | {' x '.join(map(str, architecture.input_shape))}, channels last |",
        f"| layers | {' - '.join(map(str, architecture.layers))} |",
        f"| kind | {kind} |",
        f"| activation | {config.model.activation} |",
        f"| loss | {config.model.loss} |",
        f"| free phase | T1 {config.dynamics.T1}, {config.dynamics.schedule}, omega {config.dynamics.omega:g} |",
        f"| parameters | {count} |",
        f"| weights | after {progress_of(run.state)} ({run.checkpoint}.h5 of the run) |",
        "",
    ]


def _use(run: Run, file: str, to: str) -> list[str]:
    needs = "" if to != "pytorch" or not file.endswith((".pt", ".pth", ".tar")) else " --config config.toml"
    lines = ["## Use", "", "```sh"]
    if needs:
        lines.append("# config.toml: the configuration below")
    lines += [f"eqnp import {file}{needs} --out run", "eqnp predict run image.png --checkpoint last", "```", ""]
    if to == "pytorch":
        lines += [
            "The names and the layout are those of the published PyTorch code's `state_dict`: convolutions "
            "(K, C, KH, KW), dense weights (out, in) on states flattened in (C, H, W) order.",
            "",
        ]
    return lines


def _data(run: Run) -> list[str]:
    d = run.config.data
    licence = LICENCES.get(d.name, "not known to eqnp; ask where the data came from")
    samples = [
        f"{count} {of} samples" for count, of in ((d.train_samples, "training"), (d.test_samples, "test")) if count
    ]
    scaled = {"unit": "pixels / 255", "none": "floats, unchanged"}.get(d.normalisation, d.normalisation)
    augmented = [*(["mirrored"] if d.flip else []), *([f"cropped with {d.crop} pixels of padding"] if d.crop else [])]
    return [
        "## Data",
        "",
        f"- dataset: {d.name}{', ' + ', '.join(samples) if samples else ''}",
        f"- licence of the data: {licence}",
        f"- preprocessing: {scaled}{'; training images ' + ', '.join(augmented) if augmented else ''}",
        *([f"- validation set: {d.validation:g} of the training samples"] if d.validation else []),
        "",
    ]


def _metrics(run: Run) -> list[str]:
    """Return the metrics of the epoch of these weights and of the last epoch, as far as the run has them."""
    rows = RunFolder(run.path).metrics()
    shown = {row["epoch"]: row for row in rows if row["epoch"] in (str(run.state.epoch), rows[-1]["epoch"])}
    lines = ["## Metrics", ""]
    if not shown:
        return [*lines, "None: the run has finished no epoch.", ""]
    columns = [c for c in rows[0] if c.endswith(("error_percent", "_loss"))]
    lines += [f"| epoch | {' | '.join(c.replace('_', ' ').replace('percent', '(%)') for c in columns)} |"]
    lines += ["|---" * (len(columns) + 1) + "|"]
    for epoch, row in shown.items():
        of = " (these weights)" if epoch == str(run.state.epoch) and not run.state.batch else ""
        lines.append(f"| {epoch}{of} | {' | '.join(_rounded(c, row.get(c, '')) for c in columns)} |")
    tested = [row for row in RunFolder(run.path).rows(RunFolder(run.path).test_path)][-1:]
    for row in tested:
        lines += ["", f"Test error of best.h5 (epoch {row.get('best_epoch', '?')}): "
                  f"{_rounded('percent', row.get('test_error_percent', ''))} %."]  # fmt: skip
    return [*lines, ""]


def _names(arrays: Mapping[str, np.ndarray]) -> list[str]:
    rows = [f"| `{name}` | {' x '.join(map(str, a.shape))} | {a.dtype} |" for name, a in arrays.items()]
    return ["## Arrays", "", "| name | shape | type |", "|---|---|---|", *rows, ""]


def _configuration(run: Run) -> list[str]:
    return ["## Configuration", "", "```toml", to_toml(shared(run.config)).rstrip(), "```", ""]


def shared(config: Config) -> Config:
    """Return a configuration as others get it: without the folder of the data, which is a path of this machine."""
    return replace(config, data=replace(config.data, folder=""))


def _environment(run: Run) -> list[str]:
    found = RunFolder(Path(run.path)).environment()
    kept = [key for key in ("eqnp", "python", "numpy", "blas", "cpu", "backend", "gpu") if key in found]
    return ["## Environment of the training", "", *(f"- {key}: {' '.join(str(found[key]).split())}" for key in kept)]


def _rounded(column: str, text: str) -> str:
    try:
        return f"{float(text):.2f}" if column.endswith("percent") else f"{float(text):.4f}"
    except ValueError:
        return "-"
