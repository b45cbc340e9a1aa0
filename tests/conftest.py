"""One test body for all backends: ``backend`` is NumPy always, and CuPy when a GPU answers (marked ``gpu``)."""

from __future__ import annotations

import pytest

from eqnp.backend import get_backend
from eqnp.errors import BackendError


@pytest.fixture(params=["numpy", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request):
    try:
        return get_backend(request.param)
    except BackendError as error:
        pytest.skip(str(error))
