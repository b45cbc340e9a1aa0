"""What ``mpiexec`` and ``srun`` tell a process in its environment, and the environment of one that is no rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

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
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_LOCAL = (
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "PALS_LOCAL_RANKID",
    "SLURM_LOCALID",
)


def without_launcher(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` without what tells a process that it is a rank of a run over several processes."""
    return {name: value for name, value in environment.items() if not _of_launcher(name)}


def launched(environment: Mapping[str, str]) -> int:
    """Return how many processes ``mpiexec`` started together with this one, itself among them; 1 without ``mpiexec``.

    Slurm is not asked: it sets its variables in a batch script too, where there is one process.
    """
    return max(_numbers(environment, _SIZES), default=1)


def local_rank(environment: Mapping[str, str]) -> int:
    """Return the number of this process among those that ``mpiexec`` started on its host; 0 if it is not said."""
    return next(_numbers(environment, _LOCAL), 0)


def _numbers(environment: Mapping[str, str], names: Sequence[str]) -> Iterator[int]:
    for text in (environment.get(name, "") for name in names):
        if text.isascii() and text.isdigit() and len(text) < 10:
            yield int(text)


def _of_launcher(name: str) -> bool:
    return name.startswith(_PREFIXES) or name in _NAMES
