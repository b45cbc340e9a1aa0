"""What a launcher such as ``mpiexec`` or ``srun`` tells a process by environment variables: its rank and their number.

Nothing of MPI is imported here, so a plain run pays nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

# Each launcher's variables: rank and number of processes. Hydra (MPICH, Intel MPI), Open MPI, MVAPICH, PMIx, and a job
# step of Slurm. SLURM_PROCID and SLURM_NTASKS alone do not count: a batch script has them too, and is one process.
_VARIABLES = (
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


class Launched(NamedTuple):
    """The rank of a process and how many were started together; (0, 1) without a launcher."""

    rank: int = 0
    size: int = 1


def launched(environment: Mapping[str, str] | None = None) -> Launched:
    """Return what the launcher of this process says, by its environment variables."""
    environment = os.environ if environment is None else environment
    for names in _VARIABLES:
        texts = [environment.get(name, "").strip() for name in names]
        if all(text.isascii() and text.isdigit() and len(text) < 10 for text in texts):
            rank, size = map(int, texts)
            if rank < size:
                return Launched(rank, size)
    return Launched()
