"""Freed memory stays with the process where glibc gives it, and settings of the user are left alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from eqnp.backends import allocator
from eqnp.backends.allocator import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from eqnp.backends.allocator import keep_freed_memory

def update():
    arrays = [np.ones(2**21, np.float32) for _ in range(4)]  # 8 MB each

kept = len(sys.argv) > 1 and keep_freed_memory()
for _ in range(5):
    update()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    update()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*args: str) -> tuple[int, int]:
    """Return whether freed memory is kept, and how often the system had to give a page of memory in ten updates."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC", "GLIBC"))}
    done = subprocess.run([sys.executable, "-c", FAULTS, *args], env=clean, capture_output=True, text=True, check=True)
    kept, count = done.stdout.split()
    return int(kept), int(count)


@pytest.mark.skipif(not keep_freed_memory({}), reason="no glibc")
def test_an_update_gets_the_memory_that_the_last_one_freed():
    kept, few = faults("keep")
    assert kept and few < 100
    assert faults()[1] > 1000


@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_TRIM_THRESHOLD_", "1"), ("MALLOC_MMAP_THRESHOLD_", "1"), ("GLIBC_TUNABLES", "glibc.malloc.check=0")],
)
def test_a_setting_of_the_user_stays(name, value):
    assert not keep_freed_memory({name: value})


@pytest.mark.skipif(not keep_freed_memory({}), reason="no glibc")
def test_settings_of_other_kinds_do_not_matter():
    assert keep_freed_memory({"GLIBC_TUNABLES": "glibc.cpu.x86_ibt=off", "HOME": "glibc.malloc."})


def test_nothing_happens_without_glibc(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory({})
    monkeypatch.undo()
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory({})
