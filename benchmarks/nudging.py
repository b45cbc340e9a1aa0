"""Time of an asymmetric nudged phase relative to a plain one, interleaved.

    python -m benchmarks.nudging [PRESET ...] [--runs N] [--steps N] [--out FILE.md]

Both phases take the same number of steps from the same free states, in float32, on one shard of random data. An
asymmetric phase includes ``turn``, which is computed once; *a step* leaves it out. ``forward`` is a plain phase with
forward winners, which finds all winners in its drives: the cheapest plain step. Ratios are of medians, with the
smallest and the largest ratio within a round.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.timing import prepared_preset, where_measured
from eqnp.analysis.measuring import interleave, ratio
from eqnp.contrasts import asymmetric_contrast, nudged_network, vector_field_contrast
from eqnp.dynamics import Phase, relax
from eqnp.losses import one_hot
from eqnp.prepared import PreparedNetwork

PRESETS = ("small-vf",)


def measure(preset: str, steps: int, runs: int) -> dict[str, list[float]]:
    """Return the seconds of every run of each phase: ``plain``, ``forward``, ``asymmetric`` and ``a step`` of it."""
    work = {}
    for name, winners in (("plain", "own"), ("forward", "forward")):
        _, learner, parameters, x = prepared_preset(preset, f"model.feedback_winners={winners}")
        prepared = PreparedNetwork(learner.network, parameters, x)
        target = one_hot(np.arange(len(x)) % 10, 10, x.dtype)
        free = relax(prepared, prepared.zero_states(), 10).states

        def nudge(contrast, prepared=prepared, free=free, target=target) -> None:
            network, start = nudged_network(contrast, prepared, free)
            relax(network, start, Phase(steps), 0.1, target)

        work[name] = partial(nudge, vector_field_contrast)
        if name == "plain":
            work["asymmetric"] = partial(nudge, asymmetric_contrast)
            turned, start = nudged_network(asymmetric_contrast, prepared, free)
            work["a step"] = partial(relax, turned, start, Phase(steps), 0.1, target)
    return interleave(work, runs)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=PRESETS)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [
        where_measured(options.runs),
        "",
        f"| preset | asymmetric / plain, {options.steps} steps | a step / plain | a step / forward |",
        "|---|---|---|---|",
    ]
    for preset in options.presets:
        times = measure(preset, options.steps, options.runs)
        cells = [
            ratio(times[a], times[b]) for a, b in (("asymmetric", "plain"), ("a step", "plain"), ("a step", "forward"))
        ]
        lines.append(f"| `{preset}` | " + " | ".join(cells) + " |")
    text = "\n".join(lines)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
