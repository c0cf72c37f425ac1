"""Texts of any content in Markdown: escapes, code spans, tables."""

import re

import pytest

from core.text.markdown import code_span, escape, fenced, table


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", r"a\|b"),
        ("max_length", "max_length"),
        ("_x_", r"\_x\_"),
        ("*b*", r"\*b\*"),
        ("<script>", r"\<script\>"),
        ("[a](b)", r"\[a\](b)"),
        ("- a", r"\- a"),
        ("1. b", r"1\. b"),
        ("$x$", r"\$x\$"),
        ("a\nb\tc", "a b c"),
        ("1990", "1990"),
    ],
)
def test_a_text_shows_each_of_its_characters(text: str, expected: str) -> None:
    assert escape(text) == expected


@pytest.mark.parametrize("text", ["`", "a`b", "``a``", "*b*", " a ", "a|b"])
def test_a_code_span_contains_its_text(text: str) -> None:
    span = code_span(text)
    match = re.fullmatch(r"(`+) ?(.*?) ?\1", span)
    assert match
    assert text.strip() in match[2]
    assert match[1] not in text


def test_empty_and_white_labels_are_named() -> None:
    assert code_span("") == "(empty)"
    assert "white space" in code_span("  ")


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    for cell in (escape("a|b"), code_span("a|b"), "a|b"):
        line = table(["one", "two"], [[cell, "c"]])[2]
        assert len(re.findall(r"(?<!\\)\|", line)) == 3


def test_a_block_is_not_ended_by_its_text() -> None:
    lines = fenced("```\na\n```", "yaml")
    assert lines[0] == "````yaml"
    assert lines[-1] == "````"
