"""Builds the site: ``python -m docs.site``, or with ``--out FOLDER``. Any warning or broken link is an error."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from docs.site import check, repository

_HERE = Path(__file__).parent


def stage(folder: Path) -> None:
    """Write the sources of all pages to ``folder``, which Sphinx reads."""
    for path, name in repository.pages().items():
        if path.endswith(repository.PAGES):
            content = (repository.ROOT / path).read_bytes()
            name += path[path.rindex(".") :]
        else:
            kind = "source-folder" if (repository.ROOT / path).is_dir() else "source-file"
            head = "---\norphan: true\nhide-toc: true\n---\n"
            content = f"{head}# {path}\n\n```{{{kind}}} {path}\n```\n".encode()
            name += ".md"
        _write(folder / name, content)
    for path in repository.assets():
        _write(folder / repository.ASSETS / path, (repository.ROOT / path).read_bytes())


def _write(place: Path, content: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)


def main() -> int:
    """Build the site and return an exit code."""
    parser = argparse.ArgumentParser(prog="python -m docs.site", description="Build the site; its home is index.html.")
    parser.add_argument("--out", type=Path, default=repository.ROOT / "build" / "site", help="default: build/site")
    parser.add_argument("--jobs", default="auto", help="processes; default: as many as cores")
    asked = parser.parse_args()
    try:
        from sphinx.cmd.build import main as sphinx
    except ModuleNotFoundError:
        parser.exit(4, "python -m docs.site: needs Sphinx and more; install them: pip install -e '.[docs]'\n")
    if asked.out.exists() and any(asked.out.iterdir()) and not (asked.out / "objects.inv").is_file():
        parser.error(f"{asked.out} holds other files than a site; choose another --out")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        stage(work / "source")
        strict = ["--nitpicky", "--fail-on-warning", "--keep-going", "--quiet", "--show-traceback"]
        places = ["-c", _HERE, "-d", work / "doctrees", work / "source", work / "site"]
        code = sphinx([*strict, "-j", asked.jobs, *map(str, places)])
        if code > 1 or not (work / "site" / "objects.inv").is_file():
            return code or 1
        if wrong := check.broken_links(work / "site"):
            print("\n".join(wrong), file=sys.stderr)
            code = code or 1
        shutil.rmtree(asked.out, ignore_errors=True)
        shutil.copytree(work / "site", asked.out)
    if not code:
        print(f"open {asked.out / 'index.html'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
