"""Dropout in a network that settles: masks that hold through all phases, and what makes up for the masked units.

A mask holds zeros and ones m (N, ...) for every unit of a state. It stays as it is through all phases of a batch; a
masked unit is not there. Its layer keeps a share q of its units, and ``Architecture.dropout_scaling`` says what makes
up for the others:

    weights    s <- m sigma(F), and the weights that leave the layer upwards are divided by q, both ways
    states     s <- (m / q) sigma(F), and no weight is scaled

Either way the layer above is driven as strongly as by all units. With ``weights`` the masked layer sends down weaker
feedback (by q) and gets stronger feedback from above (by 1 / q) than without dropout; with ``states`` both have their
size without dropout. Evaluation has no masks and divides by nothing.

Both have a Phi if the whole network has one. With ``states`` s is the scaled state, and the energy of a unit that is
kept has q |s|^2 / (2 a) instead of |s|^2 / (2 a), for sigma(u) = clip(a u, ..): stationary where s = (a / q) dPhi/ds.
"""

from __future__ import annotations

from collections.abc import Sequence

from eqnp.architecture import Architecture
from eqnp.backends.backend import Array

Masks = Sequence[Array | None]  # of s^1 .. s^L, each (N, ...) or None


def weight_scales(architecture: Architecture) -> dict[str, float]:
    """Return 1 / q, by name, for the weights that leave a layer with dropout upwards, both ways, if they are scaled."""
    scales: dict[str, float] = {}
    if architecture.dropout_scaling == "states":
        return scales
    for edge in architecture.edges:
        if edge.lower and (keep := architecture.keep[edge.lower - 1]) < 1:
            scales |= dict.fromkeys((f"{edge.name}.weight", f"{edge.backward}.weight"), 1 / keep)
    if architecture.readout and architecture.keep[-1] < 1:
        scales["readout.weight"] = 1 / architecture.keep[-1]
    return scales


def scaled_masks(masks: Masks, architecture: Architecture) -> list[Array | None]:
    """Return the masks m, each (N, ...) or None, or m / q if states are scaled."""
    if architecture.dropout_scaling == "weights":
        return list(masks)
    return [m if m is None else m / keep for m, keep in zip(masks, architecture.keep, strict=True)]
