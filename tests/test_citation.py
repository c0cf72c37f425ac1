"""The metadata of an archive says what CITATION.cff says."""

import json
from typing import Any

from commands import REPOSITORY

from core.runtime.yaml import read_yaml


def citation() -> dict[str, Any]:
    content: dict[str, Any] = read_yaml(REPOSITORY / "CITATION.cff")
    return content


def test_zenodo_and_citation_say_the_same() -> None:
    ours = citation()
    zenodo = json.loads((REPOSITORY / ".zenodo.json").read_text())
    assert zenodo["title"] == ours["title"]
    assert zenodo["version"] == str(ours["version"])
    assert zenodo["publication_date"] == str(ours["date-released"])
    assert zenodo["license"] == ours["license"]
    assert zenodo["upload_type"] == ours["type"]
    assert zenodo["keywords"] == ours["keywords"]
    assert [author["name"] for author in zenodo["creators"]] == [
        author["name"] for author in ours["authors"]
    ]
    (paper,) = ours["references"]
    (related,) = zenodo["related_identifiers"]
    assert related["identifier"] in [entry["value"] for entry in paper["identifiers"]]


def test_the_changelog_has_the_cited_version_and_date() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    ours = citation()
    assert f"## {ours['version']} ({ours['date-released']})\n" in changelog
