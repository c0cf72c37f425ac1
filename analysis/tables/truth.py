"""Labels from another file, for predictions without labels. Images are matched by their names."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from analysis.tables.prediction_formats import Columns
from core.data_tools.annotations import is_image_name
from core.data_tools.sources import find_source
from core.runtime.errors import UserError


@dataclass(frozen=True)
class Truth:
    """The labels of images.

    file: where they come from.
    names: the image of each label, with `/` between folders.
    labels: the texts.
    unusable: lines of the file that give no image and label.
    """

    file: Path
    names: tuple[PurePosixPath, ...]
    labels: tuple[str, ...]
    unusable: int


def read_truth(file: Path) -> Truth:
    """The labels of an annotation file, or of a folder with one, in a format of `data build`.

    Raises UserError if it has no labels, or labels of words in photos.
    """
    if (file / "data.mdb").is_file():
        raise UserError(
            f"--truth {file}: an LMDB folder has no names of images; give the label file"
        )
    source = find_source(file)
    annotations = list(source.annotations())
    usable = [row for row in annotations if not row.problem and row.label is not None]
    if any(row.polygon for row in usable):
        raise UserError(f"--truth {file}: labels of words in photos; give those of the word images")
    if not usable:
        raise UserError(f"--truth {file}: no labels; give a label file such as gt.txt")
    return Truth(
        file,
        tuple(_path(row.image) for row in usable),
        tuple(row.label or "" for row in usable),
        len(annotations) - len(usable),
    )


def _path(name: str) -> PurePosixPath:
    """The name of an image with `/` between folders, without `.` at the start."""
    return PurePosixPath(name.strip().replace("\\", "/"))


class _Matcher:
    """Finds the label of an image by its name."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.by_name: dict[str, list[int]] = {}  # without folders
        self.by_stem: dict[str, list[int]] = {}  # without folders and suffix
        for number, name in enumerate(truth.names):
            self.by_name.setdefault(name.name, []).append(number)
            self.by_stem.setdefault(name.stem, []).append(number)

    def find(self, image: str) -> int | None:
        """The number of an image's label, or None. Raises UserError if there are several."""
        name = _path(image)
        numbers = self.by_name.get(name.name, [])
        if not numbers and not is_image_name(image):
            numbers = self.by_stem.get(name.name, [])
        if len(numbers) > 1:
            shared = [_shared_parts(name, self.truth.names[number]) for number in numbers]
            numbers = [
                number
                for number, count in zip(numbers, shared, strict=True)
                if count == max(shared)
            ]
        if len(numbers) > 1:
            raise UserError(
                f"--truth {self.truth.file}: {len(numbers)} labels fit the image {image}; write "
                "its folders in both files, and each image once"
            )
        return numbers[0] if numbers else None


def _shared_parts(first: PurePosixPath, second: PurePosixPath) -> int:
    """The number of equal parts at the ends of two paths."""
    pairs = zip(reversed(first.parts), reversed(second.parts), strict=False)
    count = 0
    for one, other in pairs:
        if one != other:
            break
        count += 1
    return count


def with_labels(
    path: Path, rows: Iterable[Columns], truth: Truth, notes: list[str]
) -> Iterator[Columns]:
    """The rows of predictions with their labels; images without prediction count as wrong.

    path: the file of predictions, for errors. rows: with `index`, the name of the image, and
    `prediction`. notes: what was left out or added is appended.

    Raises UserError if no image has a label, a row has no image, or a name fits several labels.
    """
    matcher = _Matcher(truth)
    found: list[tuple[int, Columns]] = []
    unknown = []
    for row in rows:
        if "label" in row:
            raise UserError(f"{path}: has labels itself; leave out --truth")
        if "index" not in row:
            raise UserError(
                f"{path}: no names of images, so labels cannot be matched; for MMOCR, name the "
                "folder preds, which save_pred=True writes"
            )
        number = matcher.find(str(row["index"]))
        unknown.append(row) if number is None else found.append((number, row))
    if not found:
        example = str(unknown[0]["index"]) if unknown else "none"
        raise UserError(
            f"--truth {truth.file}: no label for any image of {path} (such as {example}); its own "
            f"images are such as {truth.names[0]}"
        )
    missing = sorted(set(range(len(truth.names))) - {number for number, _ in found})
    if unknown:
        notes.append(
            f"{len(unknown)} predictions have no label in {truth.file} (such as "
            f"{unknown[0]['index']}) and are left out"
        )
    if missing:
        notes.append(
            f"{len(missing)} images of {truth.file} have no prediction (such as "
            f"{truth.names[missing[0]]}) and count as wrong"
        )
    if truth.unusable:
        notes.append(f"{truth.unusable} lines of {truth.file} have no image and label")
    for number, row in found:
        yield {**row, "index": str(number), "label": truth.labels[number]}
    for number in missing:
        yield {
            "index": str(number),
            "label": truth.labels[number],
            "prediction": "",
            "readable": "0",
        }
