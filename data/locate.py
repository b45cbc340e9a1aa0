"""Where datasets are searched: a given folder, EQNP_DATA, and the folders of torchvision, Keras and eqnp."""

from __future__ import annotations

import os
from pathlib import Path

from eqnp.data.layout import Located, candidates, partial, subfolders
from eqnp.data.published import DATASETS
from eqnp.errors import ConfigurationError

_AS_MNIST = ("fashion-mnist", "kmnist")  # datasets whose files have the names of MNIST's


def own_folder() -> Path:
    """Return the folder that ``eqnp data fetch`` downloads to: XDG_DATA_HOME/eqnp or ~/.local/share/eqnp.

    Raises:
        ConfigurationError: it would be in the home folder, which is not known.
    """
    folder = _expand(_own())
    if _is_homeless(folder):
        raise ConfigurationError(f"{folder}: no home folder is known; set HOME, or name a folder: --folder ...")
    return folder


def _own() -> str:
    return os.path.join(os.environ.get("XDG_DATA_HOME") or "~/.local/share", "eqnp")


def places(folder: str | Path | None) -> list[Path]:
    """Return the searched folders in order; without those in the home folder if that is not known."""
    named = [folder] if folder else []
    named += [place for place in os.environ.get("EQNP_DATA", "").split(os.pathsep) if place]
    usual = [_expand(place) for place in (_own(), "data", "datasets", "~/data", "~/datasets", "~/.keras/datasets")]
    return [*(_expand(place) for place in named), *(place for place in usual if not _is_homeless(place))]


def searched(name: str, folder: str | Path | None) -> list[str]:
    """Return the searched places, each with the reason, if known, why ``name`` is not there or what is missing."""
    return [
        f"{place}{_obstacle(place, subfolders(name)) or _brackets(partial(name, place))}" for place in places(folder)
    ]


def incomplete(name: str) -> str:
    """Return which files of ``name`` are missing in the first usual place that has some of them, or ""."""
    return next(filter(None, (partial(name, place) for place in places(None))), "")


def _brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _obstacle(place: Path, inside: list[str]) -> str:
    if _is_homeless(place) and not os.path.exists(place):
        return " (no such home folder)"
    for subfolder in reversed(inside):  # the place itself is the last
        try:
            os.stat(os.path.join(place, subfolder, os.curdir))  # fails without the permission to search the folder
        except (FileNotFoundError, ValueError):  # a zero byte gives a ValueError
            continue
        except OSError as error:
            return f" ({error.strerror})" if subfolder == "." else f" ({subfolder}: {error.strerror})"
    return ""


def _expand(place: str | Path) -> Path:
    """Return ``place`` with ``~`` expanded, or unchanged if no home folder is known; raises nothing, unlike pathlib."""
    return Path(os.path.expanduser(place))


def _is_homeless(place: Path) -> bool:
    return str(place).startswith("~")


def find(name: str, folder: str | Path | None = None) -> Located | None:
    """Return where the dataset called ``name`` is: the first copy without faults, or else the first complete one.

    Fashion-MNIST and KMNIST have the same file names as MNIST. Files in a folder whose name does not say which they are
    count as these only if the user named the folder, or by their first labels.
    """
    damaged = None
    for place in places(folder):
        for located in candidates(name, place):
            if name in _AS_MNIST and located.bare and not (_is_named(place, folder) or _is_known(name, located)):
                continue
            if not located.fault:
                return located
            damaged = damaged or located
    return damaged


def _is_known(name: str, located: Located) -> bool:
    return bool(DATASETS[name].first_labels[0]) and not located.fault


def _is_named(place: Path, folder: str | Path | None) -> bool:
    return place == _expand(folder) if folder else False


def lasting_folder(name: str, folder: str, search: bool = True) -> str:
    """Return ``folder`` (of a configuration; "": none) in a form that does not depend on the working directory.

    With ``search`` and no folder: the folder of the dataset if it is found below the working directory.

    Raises:
        ConfigurationError: the form would depend on a working directory that has been removed.
    """
    if not folder and search and name != "mnist-small" and name in DATASETS:
        located = find(name)
        folder = "" if located is None or located.folder.is_absolute() else str(located.folder)
    return lasting_path(folder)


def lasting_path(path: str) -> str:
    """Return a path of a configuration ("": none) in a form that does not depend on the working directory."""
    place = str(_expand(path)) if path else "~"
    try:
        lasting = path if place.startswith("~") else os.path.abspath(place)
    except FileNotFoundError:
        raise ConfigurationError("the working directory has been removed; change to another one") from None
    try:
        lasting.encode()
    except UnicodeEncodeError:  # a configuration cannot hold names that are not UTF-8
        return path
    return lasting
