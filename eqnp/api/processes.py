"""Several processes of one command: how they are found, what they must have in common, and how they end together."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from eqnp import __version__
from eqnp.api.session import Session
from eqnp.backends.backend import Array, to_host
from eqnp.backends.launcher import Launched, launched
from eqnp.backends.world import Alone, World
from eqnp.data import Dataset
from eqnp.errors import BackendError, ConfigurationError, DataError
from eqnp.runs.configfile import to_toml

CHOICES = ("auto", "mpi", "none")


@contextmanager
def open_world(choice: str = "auto", found: Launched | None = None) -> Iterator[World]:
    """Give the processes that work together: under MPI, or this one alone.

    ``choice`` is ``mpi``, ``none``, or ``auto``: MPI if a launcher started several processes. An error in one process
    ends all. Without a launcher nothing of MPI is imported.

    Raises:
        BackendError: mpi4py is not installed, or belongs to another MPI than the launcher.
    """
    found = launched() if found is None else found
    if choice == "none" or (choice == "auto" and found.size == 1):
        yield Alone()
        return
    from eqnp.backends.mpi import INSTALL, MpiWorld, load_mpi

    mpi = load_mpi()
    if found.size > 1 and mpi.COMM_WORLD.Get_size() == 1:
        raise BackendError(
            f"the launcher started {found.size} processes, but mpi4py's MPI sees one: they are of different MPIs; use "
            f"the mpiexec of mpi4py's MPI (`{INSTALL}` brings one), or --distributed none for independent processes"
        )
    if mpi.COMM_WORLD.Get_size() == 1:
        yield Alone()
        return
    world = MpiWorld(mpi)
    try:
        yield world
    except BaseException as error:
        world.leave(error)
        raise


def join(world: World, session: Session, place: str = "") -> None:
    """Check that all processes have the same data, configuration and versions. ``place`` names what else is to agree.

    Raises:
        ConfigurationError: other versions, another backend or another configuration.
        DataError: other data.
    """
    if world.size == 1:
        return
    answers = [json.loads(text) for text in world.of_all(json.dumps(_marks(session) | {"place": place}))]
    for rank, answer in enumerate(answers):
        for what, mark in answers[0].items():
            if answer[what] != mark:
                raise _difference(world.name(rank), what, answer[what], mark)


def marked(world: World, parameters: Mapping[str, Array]) -> str:
    """Return what ``join`` compares of weights that every process has read by itself."""
    digest = hashlib.sha256()
    for p in parameters.values() if world.size > 1 else ():
        digest.update(np.ascontiguousarray(to_host(p)).data)
    return f"checkpoint {digest.hexdigest()}"


def idle(world: World, session: Session) -> str:
    """Return a line if there are fewer shards than processes, so that some have nothing to do; else ""."""
    shards = len(session.learner.shards(session.config.training.batch_size))
    if shards >= world.size:
        return ""
    pieces = "1 shard" if shards == 1 else f"{shards} shards"
    return (
        f"{world.size - shards} of {world.size} processes have nothing to do: batches are cut into {pieces}; "
        f"--set training.shards={world.size} gives each one"
    )


def _difference(name: str, what: str, its: str, mark: str) -> ConfigurationError | DataError:
    if what == "data":
        return DataError(
            f"{name} has other data than rank 0 (SHA-256 {its[:8]} instead of {mark[:8]}); give all hosts the same "
            "files, or set data.folder"
        )
    if what == "configuration":
        return ConfigurationError(
            f"{name} has another configuration than rank 0; give all processes the same command, file and EQNP_ "
            "variables, or --distributed none for independent processes"
        )
    if what == "place":
        return ConfigurationError(f"{name} sees another {mark.partition(' ')[0]} than rank 0; give all hosts the same")
    return ConfigurationError(f"{name} has {what} {its}, rank 0 has {mark}; use the same on all hosts")


def _marks(session: Session) -> dict[str, str]:
    """Return what must be the same on all processes, by name."""
    own = session.config
    shared = replace(own, data=replace(own.data, folder="", file=""))  # hosts may keep the same data elsewhere
    return {
        "eqnp": __version__,
        "Python": platform.python_version(),
        "numpy": np.__version__,
        "the backend": session.learner.backend.name,
        "configuration": hashlib.sha256(to_toml(shared).encode()).hexdigest(),
        "data": _hash(session.dataset),
    }


def _hash(dataset: Dataset) -> str:
    """Return the SHA-256 of all samples and labels of a dataset, with their shapes and dtypes."""
    digest = hashlib.sha256()
    for name, value in sorted(vars(dataset).items()):
        if isinstance(value, np.ndarray):
            digest.update(f"{name} {value.dtype.str} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()
