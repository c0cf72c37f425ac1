"""Unicode forms under each protocol, as the docstring of `core/text/protocols.py` states them."""

import pytest

from core.text.protocols import PROTOCOLS
from core.text.unicode_forms import depends_on_form, unified_form

NAMES = ("waics", "case_sensitive", "alnum_case_sensitive", "chinese")
FORMS = {  # text -> what each protocol of NAMES compares
    "Caf\u00e9": ("caf", "Caf\u00e9", "Caf", "caf\u00e9"),  # NFC
    "Cafe\u0301": ("cafe", "Cafe\u0301", "Cafe", "cafe\u0301"),  # NFD
    "\u0130S": ("is", "\u0130S", "S", "i\u0307s"),  # the Turkish dotted capital I
    "\u0131s": ("s", "\u0131s", "s", "\u0131s"),  # the Turkish dotless i
    "\u212a9": ("k9", "\u212a9", "9", "k9"),  # the Kelvin sign
    "\uff11\uff21": ("", "\uff11\uff21", "", "1a"),  # full width
    "\ufb01ne": ("ne", "\ufb01ne", "ne", "\ufb01ne"),  # a ligature
    "a\u200bb": ("ab", "a\u200bb", "ab", "a\u200bb"),  # a zero-width space
    "Stra\u00dfe": ("strae", "Stra\u00dfe", "Strae", "stra\u00dfe"),  # the German sharp s
    "\u0661\u0662": ("", "\u0661\u0662", "", "\u0661\u0662"),  # Arabic digits
}


@pytest.mark.parametrize("text", FORMS)
def test_a_protocol_compares_code_points(text: str) -> None:
    compared = tuple(PROTOCOLS[name].normalize(text) for name in NAMES)
    assert compared == FORMS[text]
    assert PROTOCOLS["openocr"].normalize(text) == FORMS[text][0]


@pytest.mark.parametrize(
    ("text", "unified"),
    [
        ("It's 5 %", "It's 5 %"),
        ("cafe\u0301", "caf\u00e9"),
        ("\uff11\uff21", "1A"),
        ("\ufb01ne", "fine"),
        ("a\u200b\u200d\u2060\ufeff\u00ad\ufe0fb", "ab"),
        ("Stra\u00dfe", "Strasse"),
        ("\u0130", "\u0130"),
        ("\u4e16\u754c", "\u4e16\u754c"),
    ],
)
def test_the_unified_form_keeps_case_and_letters(text: str, unified: str) -> None:
    assert unified_form(text) == unified
    assert unified_form(unified) == unified


def test_a_comparison_depends_on_the_form_if_the_unified_one_differs() -> None:
    waics = PROTOCOLS["waics"].normalize
    exact = PROTOCOLS["case_sensitive"].normalize
    assert depends_on_form("caf\u00e9", "cafe\u0301", waics)
    assert depends_on_form("caf\u00e9", "cafe\u0301", exact)
    assert depends_on_form("ne", "\ufb01ne", waics)
    assert not depends_on_form("ne", "\ufb01ne", exact)
    assert not depends_on_form("abc", "ABC", exact)
    assert not depends_on_form("\u00c9", "\u00e9", exact)
