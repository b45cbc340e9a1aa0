"""The events of a run on stdout, one JSON object a line (``eqnp train --json``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from eqnp.api.report import Event
from eqnp.cli.streams import say_json


def print_event(event: Event) -> None:
    """Print an event as one line of JSON. A closed stdout does not stop the run."""
    with suppress(OSError):
        say_json(_plain(event))


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
