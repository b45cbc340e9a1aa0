"""Sphinx: the reference of the commands, made from the commands themselves (click)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from docs.site.prose import Formula, Items, blocks, pieces
from eqnp.cli.main import eqnp


def commands(command: click.Command = eqnp, parent: click.Context | None = None) -> Iterator[click.Context]:
    """Yield a context for a command and for all commands below it, in the order of the help."""
    ctx = click.Context(command, info_name=command.name, parent=parent, **command.context_settings)
    yield ctx
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            if below is not None and not below.hidden:
                below.name = name
                yield from commands(below, ctx)


class Commands(SphinxDirective):
    """A section for every command: ``.. eqnp-commands::``."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        return [self.section(ctx) for ctx in commands() if ctx.parent is not None]

    def section(self, ctx: click.Context) -> nodes.section:
        """Return the section of a command."""
        title = ctx.command_path
        anchor = title.replace(" ", "-")
        section = nodes.section("", nodes.title(title, title), ids=[anchor], names=[title])
        self.state.document.note_explicit_target(section)
        usage = " ".join([title, *ctx.command.collect_usage_pieces(ctx)])
        section += nodes.literal_block(usage, usage, language="none")
        section += _help(ctx.command.help or "")
        records = [(each, each.get_help_record(ctx)) for each in ctx.command.get_params(ctx)]
        shown = [(each, record) for each, record in records if record and record[1]]
        if shown:
            items = (_option(f"{anchor}{max(each.opts, key=len)}", *record) for each, record in shown)
            section += nodes.definition_list("", *items, classes=["options"])
        if examples := getattr(ctx.command, "examples", ()):
            lines = "\n".join(f"eqnp {words}" for words in examples)
            section += nodes.literal_block(lines, lines, language="sh")
        return section


def _help(text: str) -> list[nodes.Node]:
    """Return the text of a command's help. A paragraph that is a command is shown as one."""
    result: list[nodes.Node] = []
    for block in blocks(text.replace("\b", "")):
        said = getattr(block, "text", "")
        if isinstance(block, Formula) or said.startswith("eqnp "):
            result.append(nodes.literal_block(said, said, language="none" if isinstance(block, Formula) else "sh"))
        elif isinstance(block, Items):
            items = [nodes.list_item("", nodes.paragraph("", "", *_inline(each))) for each in block.items]
            result.append(nodes.bullet_list("", *items))
        else:
            result.append(nodes.paragraph("", "", *_inline(said)))
    return result


def _inline(text: str) -> list[nodes.Node]:
    parts = pieces(text)
    return [nodes.literal(each.text, each.text) if each.kind == "code" else nodes.Text(each.text) for each in parts]


def _option(anchor: str, name: str, said: str) -> nodes.definition_list_item:
    term = nodes.term("", "", nodes.literal(name, name), ids=[anchor])
    return nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph("", "", *_inline(said))))


def setup(app: Sphinx) -> dict[str, Any]:
    """Extend Sphinx."""
    app.add_directive("eqnp-commands", Commands)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
