"""Configurations and selections that Hypothesis draws: written and read back, or refused in one line."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import get_args, get_type_hints

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from eqnp.cli.selection import parse_selection
from eqnp.errors import ConfigurationError
from eqnp.runs.config import Config, Layer
from eqnp.runs.configfile import load, parse, to_toml
from eqnp.shown import shown

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEPT = TEXT.map(lambda text: text.replace("\0", ""))  # what a configuration can hold


def whole(bounds):
    return st.integers(int(bounds["low"] or 0), bounds["high"])


def real(bounds):
    low = bounds["low"] if bounds["low"] is not None else bounds["above"]
    exclude = bounds["low"] is None and low is not None
    return st.floats(low, allow_nan=False, allow_infinity=False, exclude_min=exclude)


def values(declared, hint):
    """Return a strategy for all values that a key accepts by itself."""
    bounds = declared.metadata
    simple = {bool: st.booleans(), int: whole, float: real, str: KEPT}
    if bounds.get("choices"):
        return st.sampled_from(bounds["choices"])
    if hint in simple:
        return simple[hint](bounds) if callable(simple[hint]) else simple[hint]
    if hint == tuple[Layer, ...]:
        return st.lists(layers(), max_size=4).map(tuple)
    if hint == tuple[int, int]:
        return st.tuples(whole(bounds), whole(bounds))
    if hint == tuple[int, ...]:
        return st.lists(whole(bounds), max_size=4).map(tuple)
    if set(get_args(hint)) == {float, tuple[float, ...]}:
        return real(bounds) | st.lists(real(bounds), min_size=1, max_size=4).map(tuple)
    assert declared.default is not MISSING, f"{declared.name}: give it a strategy"
    return st.just(declared.default)


def tables(kind):
    """Return a strategy for a table: every key by itself, so that keys may not fit together."""
    hints = get_type_hints(kind)
    return st.builds(kind, **{each.name: values(each, hints[each.name]) for each in fields(kind)})


@st.composite
def layers(draw):
    """Return a layer. A dense one has no other keys, as in a file."""
    layer = draw(tables(Layer))
    return Layer(dense=layer.dense, keep=layer.keep) if layer.dense else layer


@st.composite
def configurations(draw):
    hints = get_type_hints(Config)
    return Config(
        **{
            each.name: draw(tables(hints[each.name]) if each.name not in ("name", "description") else KEPT)
            for each in fields(Config)
        }
    )


@given(configurations())
def test_a_configuration_comes_back_as_it_was_written(config):
    text = to_toml(config)
    again = parse("text", text)
    assert again == config and to_toml(again) == text


@given(
    st.sampled_from(
        [
            f"{table}.{key.name}"
            for table in ("data", "dynamics", "training", "optimizer")
            for key in fields(get_type_hints(Config)[table])
        ]
    ),
    TEXT,
)
def test_an_override_is_taken_or_refused_in_one_line(key, value):
    try:
        load("digits", [f"{key}={value}"])
    except ConfigurationError as error:
        assert str(error).startswith("--set ") and shown(str(error)) == str(error)


@given(TEXT)
def test_any_text_is_a_configuration_or_one_line(text):
    try:
        parse("text", text)
    except ConfigurationError as error:
        assert str(error).startswith("text: ")


PARTS = st.lists(
    st.one_of(
        st.integers(0, 30).map(lambda n: (n,)),
        st.tuples(st.integers(0, 30), st.integers(0, 31)),
        st.tuples(st.integers(0, 30), st.integers(0, 31), st.integers(1, 9)),
    ),
    min_size=1,
    max_size=5,
)


@given(PARTS, st.integers(1, 40))
def test_a_selection_is_its_numbers_in_order_and_once(parts, count):
    text = ",".join(":".join(map(str, part)) for part in parts)
    expected = [n for part in parts for n in (part if len(part) == 1 else range(*part))]
    if expected and max(expected) < count:
        assert parse_selection("--samples", text, count) == list(dict.fromkeys(expected))
        return
    with pytest.raises(ConfigurationError, match=r"--samples .*: (selects nothing|.* is outside 0 to)"):
        parse_selection("--samples", text, count)


@given(st.text("0123456789:,- x\x1b", max_size=30) | TEXT, st.integers(1, 2**40))
def test_any_selection_is_numbers_or_one_line(text, count):
    try:
        chosen = parse_selection("--samples", text, min(count, 10_000))
    except ConfigurationError as error:
        assert str(error).startswith("--samples ") and "\n" not in str(error)
    else:
        assert chosen and len(set(chosen)) == len(chosen) and all(0 <= n < count for n in chosen)
