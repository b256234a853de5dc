"""CITATION.cff, CHANGELOG.md, pyproject.toml and constraints.txt agree with the package and with each other."""

from __future__ import annotations

import re

import pytest
import yaml

from deocclude._version import __version__
from deocclude.train.config import _RENAMED_KEYS, _RENAMED_MODELS
from repository import ROOT

PYPROJECT = (ROOT / "pyproject.toml").read_text()
CONSTRAINTS = (ROOT / "constraints.txt").read_text()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==([\w.+]+)", CONSTRAINTS, flags=re.M)}


def required() -> dict[str, str]:
    """Direct dependencies of the package and its extras: name to range."""
    found = re.findall(r'^    "([\w.-]+)(?:\[\w+\])?([^"]*)",$', PYPROJECT.split("[project.scripts]")[0], flags=re.M)
    return {normal(name): spec for name, spec in found if name != "deocclude" and re.match(r"^$|[<>=]", spec)}


def test_every_direct_dependency_is_pinned_and_nothing_else() -> None:
    assert set(pins()) == set(required())
    assert {"numpy", "torch", "ruff"} <= set(pins())


@pytest.mark.parametrize("name", sorted(pins()))
def test_pinned_version_satisfies_its_range(name: str) -> None:
    from packaging.specifiers import SpecifierSet

    assert SpecifierSet(required()[name]).contains(pins()[name])
    assert "," in required()[name] or ">=" in required()[name] or "==" in required()[name]


def test_make_installs_with_the_constraints() -> None:
    lines = re.findall(r"^\t.*pip install .*-e .*$", (ROOT / "Makefile").read_text(), flags=re.M)
    assert len(lines) == 2 and all("-c constraints.txt" in line for line in lines)


def test_citation_has_this_version_and_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (str(citation["version"]), citation["license"]) == (__version__, "Apache-2.0")
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Zhou", "Wang", "Wang", "Huang", "Wang"]
    assert paper["year"] == 2021 and "2103.11597" in paper["url"]


def test_the_changelog_names_every_renamed_key() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    words = set(re.findall(r"[\w]+", " ".join(re.findall(r"`([^`]*)`", changelog))))
    for old, new in _RENAMED_KEYS.items():
        assert {old.split(".")[-1], new} <= words, old
    assert set(_RENAMED_MODELS.values()) <= words
