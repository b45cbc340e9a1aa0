"""What a word on the command line names: a preset, a configuration file or a run."""

from __future__ import annotations

import os


def file_of(source: str | None) -> str | None:
    """Return the configuration file of a run folder; another source as it is.

    Raises:
        ConfigurationError: a folder that is not a run folder.
    """
    from eqnp.runs import presets
    from eqnp.runs.runfolder import RunFolder

    if source is None or source in presets.names() or not os.path.isdir(source):
        return source
    return str(RunFolder.open(source).config_path)
