"""Character sets: classes, encoding, case, unknown characters."""

import string

import pytest

from core.text.charset import make_charset

ASCII = make_charset("ascii94")


def test_the_ascii_charset_is_the_released_one() -> None:
    assert len(ASCII.characters) == 94
    assert ASCII.characters == string.printable.strip()
    assert (ASCII.eos, ASCII.padding, ASCII.unknown) == (94, 95, 96)
    assert (ASCII.bos, ASCII.classes) == (97, 97)


def test_a_charset_of_lower_case_letters_folds_case() -> None:
    charset = make_charset("abc1'")
    assert charset.decode(charset.encode(["A1'C"], 6)[0][0].tolist()) == "a1'c"
    assert charset.can_express("CAB", 6)
    assert not charset.can_express("CABD", 6)
    assert not make_charset("123").lower_case_only
    assert not ASCII.lower_case_only


def test_decoding_inverts_encoding_but_for_unknown_characters() -> None:
    tokens, lengths = ASCII.encode(["Hello!", "né"], 10)
    assert lengths.tolist() == [7, 3]
    assert tokens[0].tolist() == [43, 14, 21, 21, 24, 62, 94, 95, 95, 95]
    assert [ASCII.decode(row) for row in tokens.tolist()] == ["Hello!", "n"]
    with pytest.raises(ValueError, match="at most 9"):
        ASCII.encode(["x" * 10], 10)
