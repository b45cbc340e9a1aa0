"""What a launcher such as ``mpiexec`` or ``srun`` tells a process by environment variables: its rank and their number.

``without_launcher`` is the environment of a process that is no rank.

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


# What launchers (MPICH and Intel MPI, Open MPI, PMIx, MVAPICH, Cray, Slurm) tell a process about its rank.
_PREFIXES = (
    "PMI_",
    "PMI2_",
    "PMIX_",
    "HYDI_",
    "HYDRA_",
    "MPIEXEC_",
    "MPI_LOCAL",
    "I_MPI_HYDRA",
    "OMPI_",
    "OPAL_",
    "ORTE_",
    "PRTE_",
    "MV2_COMM_",
    "MVP_COMM_",
    "PALS_",
    "ALPS_",
    "SLURM_STEP",
)
_NAMES = (
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_NODEID",
    "SLURM_NTASKS",
    "SLURM_NPROCS",
    "SLURM_TASKS_PER_NODE",
    "SLURM_TASK_PID",
    "SLURM_GTIDS",
    "SLURM_LAUNCH_NODE_IPADDR",
    "SLURM_SRUN_COMM_HOST",
    "SLURM_SRUN_COMM_PORT",
    "SLURM_MPI_TYPE",
)
_LOCAL = (
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "PALS_LOCAL_RANKID",
    "SLURM_LOCALID",
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


def local_rank(environment: Mapping[str, str]) -> int:
    """Return the number of this process among those that were started on its host; 0 if it is not said."""
    texts = (environment.get(name, "") for name in _LOCAL)
    return next((int(text) for text in texts if text.isascii() and text.isdigit() and len(text) < 10), 0)


def without_launcher(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` without what tells a process that it is a rank of a run over several processes."""
    return {k: v for k, v in environment.items() if not (k.startswith(_PREFIXES) or k in _NAMES)}
