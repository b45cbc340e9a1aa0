"""Which files of the repository are pages of the site, and what their links mean.

A page is a Markdown file or a notebook in ``docs/``, or any file or folder that a page links to: Markdown, source and
other text, and folders. So a link that leads somewhere on GitHub leads to the same on the site.
"""

from __future__ import annotations

import json
import re
import subprocess
from functools import lru_cache
from pathlib import Path, PurePosixPath
from posixpath import normpath

from docs.site.sources import names

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {"eqnp": "", "data": "data/", "cli": "cli/"}  # folders of source, and where their pages are below code/
PAGES = (".md", ".ipynb")
TEXT = (".py", ".pyi", ".cu", ".toml", ".cff", ".yml", ".yaml", ".csv", ".txt", ".sh", "Dockerfile", ".cuda", ".cpu")
# Documents whose lists of links are the navigation: what they link to stands below them.
HOME, CODE = "docs/index.md", "docs/code.md"
LISTS = (HOME, CODE, "benchmarks/README.md")
ASSETS = "_assets"  # where images and other files are put, by their paths
_LINK = re.compile(r"\]\((?![a-z]+:)([^)\s#]*)(#[^)\s]*)?\)")


def documents() -> list[str]:
    """Return the paths of all documents in ``docs/``, from the root of the repository."""
    return sorted(f"docs/{path.name}" for path in (ROOT / "docs").iterdir() if path.suffix in PAGES)


def text_of(path: str) -> str:
    """Return the Markdown of a document; of a notebook that of its Markdown cells."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if not path.endswith(".ipynb"):
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def without_code(text: str) -> str:
    """Return Markdown without its fenced blocks and inline code, which hold no links."""
    return re.sub(r"`[^`\n]+`", "`", re.sub(r"^( *)(```+).*?^\1\2 *$", "", text, flags=re.MULTILINE | re.DOTALL))


def links(path: str) -> list[str]:
    """Return the paths in the repository that a document links to, without fragments, in order, each once."""
    found = (resolve(path, target) for target, _ in _LINK.findall(without_code(text_of(path))) if target)
    return list(dict.fromkeys(each for each in found if each))


def resolve(path: str, target: str) -> str | None:
    """Return the path in the repository that ``target``, a relative link in the document ``path``, leads to.

    None if it leads out of the repository or nowhere.
    """
    joined = normpath(str(PurePosixPath(path).parent / target))
    return None if joined.startswith("..") or not (ROOT / joined).exists() else joined


@lru_cache(1)
def pages() -> dict[str, str]:
    """Return the name of the page (Sphinx' docname) of every path that has one."""
    found: dict[str, str] = {}
    waiting = [*documents(), *public_files()]
    while waiting:
        path = waiting.pop()
        if path in found or (name := page_name(path)) is None:
            continue
        found[path] = name
        if path.endswith(PAGES):
            waiting += links(path)
    return dict(sorted(found.items()))


def public_files() -> list[str]:
    """Return the files that the public names of ``eqnp`` come from."""
    stub = (ROOT / "eqnp" / "__init__.pyi").read_text(encoding="utf-8")
    found = (path_of(module) for module in re.findall(r"^from (\S+) import ", stub, re.MULTILINE))
    return sorted({each[0] for each in found if each})


def page_name(path: str) -> str | None:
    """Return the name of the page for a path, None if it can have none (an image, for example)."""
    where = PurePosixPath(path)
    if (ROOT / path).is_dir():
        return "files/" + (path.replace(".", "root") if path == "." else path)
    if path.endswith(PAGES):
        stem = "index" if where.name == "README.md" and len(where.parts) > 1 else where.stem
        return str(where.parent / stem).removeprefix("docs/").lower()
    if not path.endswith(TEXT):
        return None
    room, *rest = where.parts
    inside = ROOMS[room] + "/".join(rest) if room in ROOMS and rest else path
    return "code/" + (inside.removesuffix(".py") if path.endswith(".py") else inside.replace(".", "-"))


def assets() -> list[str]:
    """Return the paths of the files that pages show or link to and that are no pages: images, for example."""
    found = {each for path in pages() if path.endswith(PAGES) for each in links(path) if each not in pages()}
    return sorted(each for each in found if (ROOT / each).is_file())


@lru_cache(1)
def paths() -> dict[str, str]:
    """Return the path of every page."""
    names = pages()
    result = {name: path for path, name in names.items()}
    if len(result) < len(names):
        raise ValueError(f"two paths have the same page: {sorted(set(names) - set(result.values()))}")
    return result


def path_of(dotted: str) -> tuple[str, str] | None:
    """Return file and name of what a dotted name such as ``eqnp.dynamics.relax`` means; None if no file is meant."""
    first, *rest = dotted.split(".")
    if first != "eqnp" or not rest:
        return None
    folder, parts = (rest[0], rest[1:]) if rest[0] in ("data", "cli") else ("eqnp", rest)
    for count in range(len(parts), -1, -1):
        stem = "/".join([folder, *parts[:count]])
        for path in (f"{stem}.py", f"{stem}/__init__.py"):
            if (ROOT / path).is_file():
                return path, ".".join(parts[count:])
    return None


def place_of(dotted: str) -> tuple[str, str] | None:
    """Return what ``path_of`` does, if a page of code has the name; None if not."""
    found = path_of(dotted)
    if found is None or found[0] not in pages():
        return None
    path, name = found
    return found if not name or name in names((ROOT / path).read_text(encoding="utf-8")) else None


def entries(folder: str) -> list[str]:
    """Return the names of what git knows in a folder, folders with a slash at the end."""
    command = ["git", "ls-files", "-z", "."]
    done = subprocess.run(command, cwd=ROOT / folder, capture_output=True, text=True, check=False)
    names = [each for each in done.stdout.split("\0") if each]
    if not names:  # no clone, as in an archive
        names = [str(each.relative_to(ROOT / folder)) for each in (ROOT / folder).rglob("*") if each.is_file()]
    return sorted({first + "/" if slash else first for first, slash, _ in (each.partition("/") for each in names)})
