"""A page on which a network settles: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from eqnp.analysis.scenes import View, record_scenes, scene, state_ranges
from eqnp.api.run import Run
from eqnp.api.session import Session
from eqnp.backends.backend import Array
from eqnp.losses import CrossEntropy

IMAGES = 10  # at most, without a choice of the user
LARGEST = 3_000_000  # bytes of a page
_FEWEST = 3  # images that a page keeps before it is allowed to be larger


def default_samples(session: Session, split: str) -> list[int]:
    """Return the first sample of each class in a split, ``IMAGES`` at most, in the order of the classes."""
    labels = session.labels(split)
    first = [int(np.argmax(labels == k)) for k in range(len(session.dataset.classes)) if (labels == k).any()]
    return first[:IMAGES]


def show_run(run: Run, *, split: str = "test", samples: Sequence[int] = ()) -> str:
    """Return a page (HTML) on which the network of a run settles, as ``eqnp show`` writes it.

    ``samples`` are indices into a split of the run's data; by default the first sample of each class.

    Raises:
        ConfigurationError: no such split, or the run's arrays were not given to ``eqnp.open_run``.
        DataError: the run's dataset is not found.
    """
    session = run.with_data()
    chosen = list(samples) or default_samples(session, split)
    return settling_page(session, run.parameters, run.path.resolve().name, split, chosen)[0]


def settling_page(
    session: Session, parameters: Mapping[str, Array], name: str, split: str, chosen: Sequence[int]
) -> tuple[str, int]:
    """Return the page (HTML) for samples of a split, and how many of them it holds.

    ``name`` is that of the run. If the page would be larger than 3 MB, the last samples are left out, down to three.
    """
    x, labels = session.samples(split, list(chosen))
    images = session.images(split)[list(chosen)]
    learner = session.learner
    views, records = record_scenes(learner, parameters, x, labels)
    ranges = state_ranges(records)
    classes = session.dataset.classes
    content: dict[str, Any] = {
        "title": f"How {name} settles",
        "about": _about(session),
        "split": split,
        "classes": classes,
        "softmax": isinstance(learner.network.loss, CrossEntropy),
        "hasEnergy": records["free"].energy is not None,
        "layers": [_layer(view, *of) for view, of in zip(views, ranges, strict=True)],
        "samples": [],
    }
    template = files("eqnp.api").joinpath("show.html").read_text("utf-8")
    size = len(template) + len(json.dumps(content))
    for n, (index, label) in enumerate(zip(chosen, labels, strict=True)):
        one = {
            "index": int(index),
            "label": int(label),
            "name": classes[label],
            "image": _image(images[n]),
            "phases": scene(views, records, n, ranges),
        }
        size += len(json.dumps(one))
        if size > LARGEST and n >= _FEWEST:
            break
        content["samples"].append(one)
    text = json.dumps(content).replace("</", "<\\/").replace("<!--", "<\\u0021--")
    page = template.replace("__TITLE__", html.escape(content["title"])).replace("__DATA__", text)
    return page, len(content["samples"])


def _about(session: Session) -> str:
    config, architecture = session.config, session.learner.network.architecture
    kind = "vector field" if architecture.vector_field else "symmetric network"
    return f"{kind}: {' - '.join(map(str, architecture.layers))}, on {config.data.name}"


def _layer(view: View, low: float, high: float) -> dict[str, Any]:
    of, shown = view.shape[-1], len(view.channels)
    what = "units" if len(view.shape) == 1 else "maps"
    note = f" ({'all' if shown == of else f'the {shown} most active of'} {of} {what}"
    note += f", averaged over {view.square}x{view.square})" if view.square > 1 else ")"
    return {
        "name": view.name,
        "maps": shown,
        "height": view.height,
        "width": view.width,
        "low": low,
        "high": high,
        "note": note,
    }


def _image(image: np.ndarray) -> dict[str, Any]:
    """Return an image (H, W, C) or a sample (D,) as pixels for the page."""
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = np.rint(255 * (image - low) / ((high - low) or 1.0)).astype(np.uint8)
    if image.ndim == 1:
        width = int(np.ceil(np.sqrt(len(image))))
        image = np.pad(image, (0, -len(image) % width)).reshape(-1, width, 1)
    channels = 3 if image.shape[2] >= 3 else 1
    pixels = np.ascontiguousarray(image[..., :channels])
    return {
        "width": image.shape[1],
        "height": image.shape[0],
        "channels": channels,
        "data": base64.b64encode(pixels.tobytes()).decode(),
    }
