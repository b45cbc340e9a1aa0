"""One test body for all backends: NumPy, a strict stand-in for CuPy, and CuPy when a GPU answers (marked ``gpu``)."""

from __future__ import annotations

import sys

import pytest
import standin

from eqnp.backend import Backend, get_backend
from eqnp.errors import BackendError

sys.modules.setdefault("standin", standin)


@pytest.fixture(params=["numpy", "standin", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request):
    if request.param == "standin":
        return Backend("standin", standin)
    try:
        return get_backend(request.param)
    except BackendError as error:
        pytest.skip(str(error))
