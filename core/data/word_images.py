"""Word images in LMDB: read lazily in each process, counted where they cannot be read, never replaced by another.

The standard layout: `image-%09d` and (where there are labels) `label-%09d`, numbered from 1, and `num-samples`. Nothing here
grows with the number of images but what is left out.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import lmdb
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from core.data.lmdb_folder import IMAGE_KEY, LABEL_KEY, count_samples, fingerprint, open_lmdb
from core.runtime.errors import UserError

FORMATS = (
    "JPEG",
    "PNG",
    "BMP",
    "GIF",
    "WEBP",
    "TIFF",
    "PPM",
    "MPO",
)  # not EPS, which would run Ghostscript


FILTER_COLUMNS = (
    "fingerprint",
    "index",
)  # what the reader takes from a filter list; further columns are for people


def read_filters(paths: Iterable[str]) -> dict[str, np.ndarray]:
    """Fingerprint of a root -> numbers (from 0) of its images to leave out, from filter lists (TSV with a header line).

    Raises UserError if a file is missing or not such a list."""
    left_out: dict[str, list[int]] = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                lines = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
            if not lines or tuple(lines[0][:2]) != FILTER_COLUMNS:
                raise ValueError("its first line must name the columns fingerprint and index")
            for line in lines[1:]:
                left_out.setdefault(line[0], []).append(int(line[1]))
        except FileNotFoundError as error:
            raise UserError(
                f"{path}: no such filter list; `run.py data overlap` writes one"
            ) from error
        except (OSError, ValueError, IndexError) as error:
            raise UserError(
                f"{path}: not a filter list ({error}); `run.py data overlap` writes one"
            ) from error
    return {name: np.unique(np.array(numbers)) for name, numbers in left_out.items()}


def decode(raw: bytes) -> Image.Image | None:
    """An image file's pixels as RGB, or None if they cannot be decoded."""
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            return image.convert("RGB")
    except (
        Exception
    ):  # a decoder may raise anything on a broken file, and none may end a run at its ninth hour
        return None


def resize(picture: Image.Image, size: tuple[int, int]) -> Tensor:
    """(3, H, W) uint8, bicubic, of `size` (height, width)."""
    if picture.size != (size[1], size[0]):
        picture = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


class Selection:
    """The numbers from `start` to `stop` without some, in order; memory only for those left out."""

    def __init__(self, start: int, stop: int, left_out: np.ndarray) -> None:
        inside = np.unique(left_out[(left_out >= start) & (left_out < stop)]) - start
        self.start, self._length = start, stop - start - len(inside)
        self._gaps = inside - np.arange(len(inside))  # so many are kept before each one left out

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        return self.start + positions + np.searchsorted(self._gaps, positions, side="right")


class WordImages:
    """Several LMDB roots read as one, those in `mixed` last; image `i` of `len()` has an optional label. Holds no open file.

    `filters`: lists of images to leave out of training and tests; they keep their numbers. Raises UserError."""

    def __init__(
        self, roots: Sequence[str], filters: Sequence[str] = (), mixed: Sequence[str] = ()
    ) -> None:
        self.roots = [*roots, *mixed]
        self.ends = np.cumsum([count_samples(open_lmdb(root), root) for root in self.roots])
        self.border = int(self.ends[len(roots) - 1])  # where `mixed` begins
        self.left_out = np.empty(0, dtype=np.int64)
        if filters:
            self._leave_out(filters)

    def _leave_out(self, filters: Sequence[str]) -> None:
        lists = read_filters(filters)
        starts = [0, *self.ends.tolist()]
        parts = [
            lists.get(fingerprint(root)[0], self.left_out) + start
            for root, start in zip(self.roots, starts, strict=False)
        ]
        self.left_out = np.concatenate(parts)
        if lists and not len(self.left_out):
            raise UserError(
                f"{', '.join(filters)}: made for other data than {', '.join(self.roots)}; make it again for these"
            )

    def __len__(self) -> int:
        return int(self.ends[-1])

    def selection(
        self, left_out: Sequence[int] | np.ndarray = (), start: int = 0, stop: int | None = None
    ) -> Selection:
        """The images from `start` to `stop` without the filtered ones and those in `left_out`."""
        also = np.asarray(left_out, dtype=np.int64)
        return Selection(
            start, len(self) if stop is None else stop, np.concatenate([self.left_out, also])
        )

    def _get(self, index: int, pattern: str) -> bytes | None:
        root = int(np.searchsorted(self.ends, index, side="right"))
        number = index - int(self.ends[root - 1] if root else 0) + 1
        try:
            with open_lmdb(self.roots[root]).begin() as transaction:
                return transaction.get(pattern.format(number).encode())
        except lmdb.Error:  # a damaged page
            return None

    def label(self, index: int) -> str | None:
        """The label, or None if there is none or it is not UTF-8."""
        return _text(self._get(index, LABEL_KEY))

    def has_label(self, index: int) -> bool:
        """Whether there is a label, be it text or not."""
        return self._get(index, LABEL_KEY) is not None

    def labels(self) -> Iterator[str | None]:
        """Every label in order, as `label` gives it; fast, in flat memory."""
        starts = [0, *self.ends.tolist()]
        for root, start, count in zip(self.roots, starts, np.diff(starts).tolist(), strict=False):
            scanned = 0
            try:
                for label in _scan_labels(open_lmdb(root), count):
                    scanned += 1
                    yield label
            except lmdb.Error:  # a damaged page: the rest one by one
                yield from map(self.label, range(start + scanned, start + count))

    def raw(self, index: int) -> bytes | None:
        """The image file, or None if it is missing."""
        return self._get(index, IMAGE_KEY)

    def image(self, index: int, size: tuple[int, int]) -> Tensor | None:
        """(3, H, W) uint8, resized bicubically to `size` (height, width); None if missing or undecodable."""
        raw = self.raw(index)
        picture = None if raw is None else decode(raw)
        return None if picture is None else resize(picture, size)


def _scan_labels(environment: lmdb.Environment, count: int) -> Iterator[str | None]:
    """The labels of one root by one pass over its keys."""
    with environment.begin(buffers=True) as transaction, transaction.cursor() as cursor:
        here = cursor.set_range(LABEL_KEY.format(1).encode())
        for number in range(1, count + 1):
            if here and cursor.key() == LABEL_KEY.format(number).encode():
                yield _text(bytes(cursor.value()))
                here = cursor.next()
            else:
                yield None
                here = here and cursor.set_range(LABEL_KEY.format(number + 1).encode())


def _text(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


@dataclass
class Dropped:
    """What was not used, and why; shown and recorded, never silent."""

    unreadable: set[int] = field(
        default_factory=set
    )  # images that are missing or cannot be decoded
    unlabeled: int = 0
    over_long: int = 0
    unknown_characters: int = 0  # labels with a character outside the charset
    replaced: int = 0  # policy `released`: another sample took the place
    filtered: int = 0  # left out by a filter list

    @classmethod
    def total(cls, parts: "Iterable[Dropped]") -> "Dropped":
        """What all parts dropped together."""
        whole = cls()
        for part in parts:
            for name, value in vars(part).items():
                mine = getattr(whole, name)
                setattr(whole, name, mine | value if isinstance(value, set) else mine + value)
        return whole

    def counts(self) -> dict[str, int]:
        return {
            "unreadable": len(self.unreadable),
            "unlabeled": self.unlabeled,
            "over_long": self.over_long,
            "unknown_characters": self.unknown_characters,
            "replaced": self.replaced,
            "filtered": self.filtered,
        }
