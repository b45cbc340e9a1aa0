"""Looks at every link of a built site: pages, anchors and files exist, and no page loads anything from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

_LOADS = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"), ("object", "data")}


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif value and ((tag, name) == ("a", "href") or (tag, name) in _LOADS):
                (self.targets if tag == "a" else self.loaded).append(value)


def broken_links(site: Path) -> list[str]:
    """Return what is wrong, a line each."""
    pages = {}
    for path in sorted(site.rglob("*.html")):
        page = pages[path.resolve()] = _Page()
        page.feed(path.read_text(encoding="utf-8"))
    found = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        found += [f"{name}: loads {each} from elsewhere" for each in page.loaded if urlsplit(each).netloc]
        for target in page.targets + page.loaded:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            where, anchor = urldefrag(target)
            place = (path.parent / unquote(urlsplit(where).path)).resolve() if where else path
            if not place.is_file():
                found.append(f"{name}: {target} leads nowhere")
            elif anchor and place in pages and unquote(anchor) not in pages[place].anchors:
                found.append(f"{name}: {target}: no such place on that page")
    return list(dict.fromkeys(found))
