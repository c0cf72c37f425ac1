"""Keys of an LMDB folder: how its images are numbered, and how many there are.

The standard layout has 9 digits and counts from 1. Roots of other tools count from 0, or do not pad
their numbers; they are recognized by their keys.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import lmdb

from core.data.character_boxes import BOXES

IMAGE = "image"
LABEL = "label"
# Name of the photo that a word was cut from, in UTF-8; empty if it is unknown. Words of one photo
# are alike (font, light, camera), so an interval for other photos is clustered by it.
PHOTO = "photo"
COUNT_KEY = b"num-samples"
STANDARD_DIGITS = 9
# Keys beside images and labels: what `run.py data build` adds to them, and what other tools store.
HARMLESS_KEYS = {
    BOXES: "boxes of the characters, for probes (core/data/character_boxes.py)",
    PHOTO: "names of the photos that the words were cut from",
    "wh": "image sizes, as OpenOCR stores them; not used here",
    "path": "paths of the image files; not used here",
    "imgpath": "paths of the image files; not used here",
    "lexicon": "lexicons, as CRNN's tools store them; not used here",
}
MAX_COUNT_DIGITS = 18
# A count is absurd if it exceeds the last image's number by more than MAX_ABSENT and by more than
# that number. A run would otherwise look for every one of these absent images.
MAX_ABSENT = 1000


@dataclass(frozen=True)
class KeyLayout:
    """How the samples of a root are numbered.

    first: the number in the first sample's keys, 0 or 1.
    digits: numbers are padded with zeros to this length; 1: they are not padded.
    """

    first: int = 1
    digits: int = STANDARD_DIGITS

    def key(self, kind: str, index: int) -> str:
        """The key of a sample's image or label; `index` counts from 0."""
        return f"{kind}-{self.first + index:0{self.digits}d}"

    def index(self, digits: bytes) -> int | None:
        """The sample, from 0, whose keys end with these digits; None if there is no such key."""
        if not digits.isdigit() or len(digits) > MAX_COUNT_DIGITS:
            return None
        number = int(digits)
        is_key = digits == f"{number:0{self.digits}d}".encode() and number >= self.first
        return number - self.first if is_key else None

    @property
    def description(self) -> str:
        """What differs from the standard layout; "" if nothing does."""
        parts = ["counts from 0"] if self.first == 0 else []
        if self.digits == 1:
            parts.append("keys are not padded")
        elif self.digits != STANDARD_DIGITS:
            parts.append(f"keys have {self.digits} digits")
        return " and ".join(parts)


STANDARD = KeyLayout()


def parse_count(raw: bytes | None) -> int:
    """The value of `num-samples`; 0 if it is missing or no positive number."""
    text = (raw or b"").strip()
    return int(text) if text.isdigit() and len(text) <= MAX_COUNT_DIGITS else 0


def shown_count(raw: bytes | None) -> str:
    """The value of `num-samples` for messages: with separators, shortened, or "missing"."""
    if raw is None:
        return "missing"
    text = raw.strip()
    if text.isdigit() and len(text) <= MAX_COUNT_DIGITS:
        return f"{int(text):,}"
    shown = raw[:30].decode(errors="backslashreplace")
    return repr(shown + ("..." if len(raw) > 30 else ""))


def is_absurd(count: int, last: int) -> bool:
    """Whether a count is so much above the number of images that it is not used.

    count: the value of `num-samples`.
    last: the samples up to the last image.
    """
    return count - last > max(MAX_ABSENT, last)


def count_problem(raw: bytes | None, last: int) -> str:
    """How `num-samples` disagrees with the images and what follows; "" if it agrees.

    raw: the value of `num-samples`.
    last: the samples up to the last image.
    """
    count = parse_count(raw)
    if not count:
        shown = shown_count(raw)
        kind = "" if raw is None else ", not a number of images"
        return f"num-samples is {shown}{kind}; the last image's number, {last:,}, is used"
    if count == last:
        return ""
    consequence = "missing images count as unreadable"
    if is_absurd(count, last):
        consequence = f"{last:,} is used"
    elif count < last:
        consequence = "the images beyond are not used"
    return f"num-samples is {count:,}, but the last image is number {last:,}; {consequence}"


def detect_layout(transaction: lmdb.Transaction) -> KeyLayout:
    """The layout of a root's keys. One look at the first image key is enough for standard roots."""
    key = _first_image_key(transaction)
    if key in (b"", STANDARD.key(IMAGE, 0).encode()):
        return STANDARD
    digits = key.partition(b"-")[2]
    if not digits.isdigit() or len(digits) > MAX_COUNT_DIGITS:
        return STANDARD
    has_standard_key = transaction.get(STANDARD.key(IMAGE, 0).encode()) is not None
    if has_standard_key and len(digits) != STANDARD_DIGITS:
        return STANDARD  # the first key is a stray one
    is_padded = len(digits) == STANDARD_DIGITS or (len(digits) > 1 and digits.startswith(b"0"))
    from_zero = KeyLayout(0, len(digits) if is_padded else 1)
    from_one = KeyLayout(1, from_zero.digits)
    if transaction.get(from_zero.key(IMAGE, 0).encode()) is None:
        return from_one
    return from_one if _has_all_counted(transaction, from_one) else from_zero


def _has_all_counted(transaction: lmdb.Transaction, layout: KeyLayout) -> int:
    """`num-samples` if the last image has just this number in this layout, else 0."""
    raw = transaction.get(COUNT_KEY)
    count = parse_count(None if raw is None else bytes(raw))
    is_last = (
        count > 0
        and transaction.get(layout.key(IMAGE, count - 1).encode()) is not None
        and transaction.get(layout.key(IMAGE, count).encode()) is None
    )
    return count if is_last else 0


def _first_image_key(transaction: lmdb.Transaction) -> bytes:
    with transaction.cursor() as cursor:
        exists = cursor.set_range(b"image-")
        key = bytes(cursor.key()) if exists else b""
    return key if key.startswith(b"image-") else b""


def samples_to_last_image(transaction: lmdb.Transaction, layout: KeyLayout) -> int:
    """The number of samples up to the last one with an image; 0 if there is none.

    It is quick where numbers are padded, since keys are then in the order of the numbers, or where
    `num-samples` is right.
    """
    indices = (layout.index(key[len(IMAGE) + 1 :]) for key in _image_keys(transaction))
    known = (index for index in indices if index is not None)
    if layout.digits == 1:
        return _has_all_counted(transaction, layout) or max(known, default=-1) + 1
    return next(known, -1) + 1


def _image_keys(transaction: lmdb.Transaction) -> Iterator[bytes]:
    """The keys of images, the last one in byte order first."""
    with transaction.cursor() as cursor:
        # In byte order ":" follows "9", so the key before "image-:" is the last image.
        exists = cursor.prev() if cursor.set_range(b"image-:") else cursor.last()
        while exists:
            key = bytes(cursor.key())
            if not key.startswith(b"image-"):
                return
            yield key
            exists = cursor.prev()
