"""What other programs call our commands and options, and which option belongs to which command."""

from __future__ import annotations

# The names that other programs use for a command or an option.
OTHER_COMMANDS = {
    "help": "--help",
    "version": "--version",
    "resume": "train --resume RUN",
    "run": "train",
    "fit": "train",
    "grid": "sweep",
    "multirun": "sweep",
    "tune": "sweep",
    "test": "evaluate",
    "benchmark": "bench",
    "download": "data fetch",
    "fetch": "data fetch",
    "list": "presets",
}
OTHER_COMMANDS_OF = {
    "data": {"download": "fetch", "get": "fetch", "ls": "list", "view": "show", "plot": "show"},
    "config": {
        "new": "init",
        "create": "init",
        "template": "init",
        "validate": "check",
        "print": "show",
        "list": "show",
    },
}
OTHER_OPTIONS = {
    "gpu": "--backend cupy",
    "cuda": "--backend cupy",
    "output": "--out",
    "output-dir": "--out",
    "outdir": "--out",
    "o": "--out",
    "overwrite": "--force",
    "f": "--force",
    "q": "--quiet",
    "silent": "--quiet",
    "j": "--threads",
    "continue": "--resume",
}
OF_SWEEPS = {"j": "--jobs", "workers": "--jobs", "num-workers": "--jobs", "parallel": "--jobs"}

# Options of one command that are tried with others, where a key of similar letters is not what was meant.
ELSEWHERE = {
    "checkpoint": "evaluate",
    "format": "report",
    "html": "report",
    "json": "train",
    "resize": "predict",
    "split": "evaluate",
    "to": "export",
}
