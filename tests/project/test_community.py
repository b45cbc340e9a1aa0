"""Files for the community: citation, templates, containers, the recipe. None of them may say what is not so."""

from __future__ import annotations

import re
import tomllib

import pytest
from places import ROOT

import eqnp

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile.*"))
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md"))


def test_the_citation_names_this_version_and_the_papers():
    text = (ROOT / "CITATION.cff").read_text()
    top = dict(re.findall(r"^([a-z-]+): *(.*)$", text, re.MULTILINE))
    assert {"cff-version", "message", "title", "authors", "references"} <= set(top)
    assert top["version"] == eqnp.__version__ == PROJECT["version"] and top["license"] == PROJECT["license"]
    for paper in ("10.3389/fncom.2017.00024", "1905.13633", "10.3389/fnins.2021.633674", "2209.00530", "2602.03670"):
        assert paper in text, paper


def test_the_citation_is_yaml_as_its_schema_asks():
    yaml = pytest.importorskip("yaml")  # comes with what builds the site
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert content["cff-version"] == "1.2.0" and content["type"] == "software"
    for each in content["references"]:
        assert {"type", "title", "authors", "year"} <= set(each), each["title"]


def test_issue_templates_have_what_github_asks_for():
    assert [path.stem for path in TEMPLATES] == ["bug", "feature", "question"]
    for path in TEMPLATES:
        _, head, body = path.read_text().split("---\n", 2)
        assert {"name", "about", "title", "labels"} == {line.partition(":")[0] for line in head.splitlines()}, path.name
        for name in re.findall(r"docs/\w+\.md|[A-Z]+\.md", body):
            assert (ROOT / name).exists(), name
    assert (ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md").exists()


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_copies_what_is_there_and_installs_extras_that_are(path):
    text = re.sub(r"\\\n", " ", path.read_text())
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    base = lines[0]
    assert base[0] == "FROM" and re.search(r":\d+\.\d+\.\d+", base[1]), "a base image of a certain version"
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [source for words in lines if words[0] == "COPY" for source in words[1:-1]]
    assert set(sources) == allowed
    assert all((ROOT / source).exists() for source in sources)
    needed = {"pyproject.toml", PROJECT["readme"], "eqnp", *{"data", "cli"}}
    assert needed <= set(sources)
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", text)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert "cuda12x" in extras if path.suffix == ".cuda" else "cuda" not in extras
    assert any(words[0] == "USER" and words[1] != "root" for words in lines)


def test_the_recipe_has_the_dependencies_of_the_project():
    text = (ROOT / "docs" / "packaging.md").read_text()
    (recipe,) = re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    run = recipe.partition("  run:\n")[2].partition("\n\n")[0].split("\n")
    found = {re.sub(r"^ *- ", "", line).replace(" ", "") for line in run if line.strip()}
    expected = {f"python{PROJECT['requires-python']}", *(each.partition(";")[0] for each in PROJECT["dependencies"])}
    assert found == expected
    assert f'version = "{PROJECT["version"]}"' in recipe and f"name: {PROJECT['name']}" in recipe
    assert f"eqnp = {PROJECT['scripts']['eqnp']}" in recipe
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert all(f"- {each.replace('>=', ' >=')}" in recipe for each in build)
    assert all(f"- {each}" in recipe for each in PROJECT["license-files"])
    (table,) = re.findall(r"^\| extra \|.*?\n\n", text, re.MULTILINE | re.DOTALL)
    named = re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines() if row))
    assert len(named) > 6 and set(named) <= set(PROJECT["optional-dependencies"])
