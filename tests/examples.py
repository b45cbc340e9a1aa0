"""The examples in the documents: fenced blocks, which tests run, and commands in running text, which tests parse."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
from places import ROOT

from eqnp.cli.main import eqnp
from eqnp.errors import EqnpError
from eqnp.runs import presets
from eqnp.runs.configfile import load
from eqnp.runs.keys import known_keys

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])
LANGUAGES = ("sh", "bash", "python", "toml", "text")  # bash: a script, which test_docs parses
# Why a block is not run, and what in the block shows it.
REASONS = {
    "needs a GPU": "cupy|gpu|cuda|nvidia",
    "needs MPI": "mpiexec|mpirun|mpi4py",
    "needs Slurm": "srun|sbatch",
    "needs Docker": "docker|podman",
    "needs PyTorch": r"torch|\.pt\b|\.tar",
    "downloads": "fetch|download|clone|https:",
    "takes hours": "eqnp (train|check|bench|sweep)|python -m benchmarks",
    "takes long": "eqnp (train|check|bench|sweep)|python -m benchmarks",
    "changes the clone": "git |pip |python -m docs",
}
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^(?P<fence>```+)(?P<language>\S*)\n(?P<text>.*?)^(?P=fence)$", re.M | re.S
)
_NOTHING = re.compile(r"\.\.\.|[A-Z]+|FOLDER.*")  # a value that the reader fills in
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the number of its first line, and why it is not run (empty: it is)."""

    language: str
    text: str
    line: int
    reason: str


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a document, in order."""
    text = path.read_text()
    return [
        Block(
            match["language"],
            match["text"],
            text.count("\n", 0, match.start("text")) + 1,
            (match["mark"] or "").removeprefix("not run: ") if (match["mark"] or "").startswith("not run: ") else "",
        )
        for match in _BLOCK.finditer(text)
    ]


def shell_lines(text: str) -> list[str]:
    """Return the commands of a shell block, one each, without comments."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    commands = (part.strip() for line in lines for part in re.split(r" && | ; ", re.sub(r"(^|\s)#.*", "", line)))
    return [each.removeprefix("$ ") for each in commands if each]


ELSEWHERE = {"torch", "mpi4py", "mpich", "mutmut"}  # packages that the documents install by themselves
PROGRAMS = ("eqnp", "python -m", "pip", "pytest", ".ci/")  # those that ``fault`` knows


def known_lines(text: str) -> list[str]:
    """Return the commands of a shell block whose program is known, without what launches them."""
    found = (re.sub(r"^(?:mpiexec|mpirun|srun)(?: -\S+(?: \d+)?)* ", "", line) for line in shell_lines(text))
    return [line for line in found if line.startswith(PROGRAMS)]


def written(path: Path) -> list[str]:
    """Return the commands in a document's inline code and indented blocks, on one line each."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    (?:\$ )?((?:eqnp|python -m) (?:[^\n\\]|\\\n)*)$", text, re.MULTILINE)
    inline = re.findall(r"`((?:(?:eqnp|python -m|pip|pytest) |\.ci/)[^`]*)`", text)
    found = (" ".join(each.replace("\\\n", " ").split()) for each in [*indented, *inline])
    return [command for each in found for command in each.split(" && ")]


def fault(command: str, *, is_whole: bool) -> str:
    """Return what is wrong with a command, an empty string if nothing is. A mention need not be ``is_whole``."""
    command = re.sub(r"(?<=\S) > \S+$", "", command)
    words = shlex.split(_filled_in(command))
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    program = words[0] if words else ""
    if program == "eqnp":
        return fault_of_eqnp(words[1:], is_whole=is_whole)
    if words[:3] == ["python", "-m", "pip"]:
        return _fault_of_pip(words[3:])
    if words[:2] == ["python", "-m"]:
        return _fault_of_module(words[2], words[3:])
    if program == "pip":
        return _fault_of_pip(words[1:])
    if program == "pytest":
        return _fault_of_pytest(words[1:])
    if program.startswith(".ci/"):
        return "" if (ROOT / program).is_file() else "no such file"
    return f"{program!r} is no program that this test knows"


def _filled_in(command: str) -> str:
    """Return a synopsis as a command: optional words given, the first of alternatives chosen."""
    command = re.sub(
        r"(?<!\S)\[((?:--|[A-Z])[^\]]*)\](?!\S)", lambda match: re.split(r" or | \| ", match[1])[0], command
    )
    command = re.sub(r"(\S+)(?: \| \S+)+", r"\1", command).replace("--set ...", "--set ...=...")
    return (
        re.sub(r"(?<= )([a-z]+)(?:\|[a-z]+)+(?= |$)", r"\1", command)
        .replace("IMAGE...", "IMAGE")
        .replace("RUN...", "RUN")
    )


def fault_of_eqnp(words: list[str], *, is_whole: bool) -> str:
    """Return what click or the configuration refuses of a command line, without running it."""
    command, ctx = eqnp, click.Context(eqnp, info_name="eqnp")
    try:
        while isinstance(command, click.Group) and words and not words[0].startswith("-") and words[0] != "COMMAND":
            _, command, words = command.resolve_command(ctx, list(words))
            ctx = click.Context(command, info_name=command.name, parent=ctx)
        if isinstance(command, click.Group) or {"-h", "--help"} & set(words):
            return "" if all(each in ("-h", "--help", "--version", "COMMAND") for each in words) else "no such command"
        ctx = command.make_context(command.name, list(words), parent=ctx.parent)
        return _fault_of_settings(ctx.params)
    except (click.MissingParameter, click.BadOptionUsage) as error:  # the latter: no value after an option
        return error.format_message() if is_whole else ""
    except click.ClickException as error:
        return error.format_message()
    except EqnpError as error:
        return str(error)


def _fault_of_settings(params: dict[str, object]) -> str:
    """Return what is wrong with the settings of a command. What only the reader knows, a value or a network, is not."""
    known = []
    for setting in params.get("overrides") or ():
        key, _, value = setting.partition("=")
        if setting == "...=...":
            continue
        if _NOTHING.fullmatch(value):
            if re.sub(r"\.\d+", ".0", key) not in known_keys() and key != "KEY":
                return f"no key {key}"
        elif not key.startswith("model.layers."):
            known.append(setting)
    source = params.get("source")
    load(source if source in presets.names() else None, known)
    return ""


def _fault_of_module(name: str, words: list[str]) -> str:
    """Return what is wrong with ``python -m``: no such module here, or no such option in its source."""
    if name.endswith(".NAME") or name == "build":
        return ""
    stem = ROOT / name.replace(".", "/")
    place = next((each for each in (stem.with_suffix(".py"), stem / "__main__.py") if each.is_file()), None)
    if place is None:
        return f"no module {name}"
    known = {node.value for node in ast.walk(ast.parse(place.read_text())) if isinstance(node, ast.Constant)}
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    shared = {"--help", "--threads", "--set", "--out"} if name.startswith("benchmarks.") else {"--help"}
    missing = [each for each in options if each not in known | shared] if name != "eqnp" else []
    return f"{name} has no {', '.join(missing)}" if missing else ""


def _fault_of_pip(words: list[str]) -> str:
    extras = _PROJECT["project"]["optional-dependencies"]
    packages = {re.match(r"[\w-]+", each)[0].lower() for some in extras.values() for each in some} | ELSEWHERE
    for word in words[1:]:
        here = re.fullmatch(r"(?:\.|eqnp-ep|dist/\S+)(?:\[([\w,]+)\])?", word)
        if here and set((here[1] or "").split(",")) - {"", "...", *extras}:
            return f"no extra {here[1]}"
        if not here and not word.startswith("-") and word.lower() not in packages:
            return f"{word} is in no extra"
    return "" if words[0] in ("install", "uninstall") else f"pip {words[0]}"


def _fault_of_pytest(words: list[str]) -> str:
    marks = [each.partition(":")[0] for each in _PROJECT["tool"]["pytest"]["ini_options"]["markers"]]
    for word, after in pairwise([*words, ""]):
        if word == "-m" and not set(after.replace("not ", "").split(" or ")) <= set(marks):
            return f"no mark {after}"
        if word.startswith("tests/") and not (ROOT / word.partition("::")[0]).exists():
            return f"no file {word}"
    return ""
