"""The words that a probe uses, and the positions of their characters."""

from collections.abc import Mapping
from dataclasses import dataclass

from core.config import Probe
from core.data.word_images import Dropped, WordImages, image_size
from core.runtime.errors import UserError
from core.text.charset import Charset, make_charset
from core.training.label_subset import stratified_order


@dataclass(frozen=True)
class PlacedText:
    """The characters of a word that have boxes.

    text: these characters, in the charset's case; without spaces and other characters without box.
    middles: the horizontal middle of each box, as a share of the image's width.
    """

    text: str
    middles: tuple[float, ...]


@dataclass(frozen=True)
class SelectedWords:
    """Words of a data set that a probe uses.

    numbers: their numbers in the data set, ascending.
    labels: number -> label; "" if there is none.
    texts: number -> the characters that have boxes; empty unless the head is `characters`.
    dropped: reason -> words that are not used.
    """

    images: WordImages
    numbers: list[int]
    labels: dict[int, str]
    texts: dict[int, PlacedText]
    dropped: dict[str, int]

    def reference(self, number: int) -> str:
        """The text that a prediction is compared with: the characters with boxes, or the label."""
        text = self.texts.get(number)
        return self.labels[number] if text is None else text.text


def placed_text(images: WordImages, number: int, label: str, charset: Charset) -> PlacedText | None:
    """The characters with boxes of a word; None if there are none.

    images: the data set. number, label: of the word. charset: which gives the case."""
    boxes = images.boxes(number)
    if boxes is None or len(boxes) != len(label):
        return None
    raw = images.raw(number)
    size = None if raw is None else image_size(raw)
    if size is None:
        return None
    pairs = [
        (character, (box[0] + box[2]) / 2 / size[0])
        for character, box in zip(label, boxes, strict=True)
        if box is not None and not character.isspace()
    ]
    if not pairs:
        return None
    text = charset.fold_case("".join(character for character, _ in pairs))
    return PlacedText(text, tuple(middle for _, middle in pairs))


def training_words(images: WordImages, config: Probe) -> SelectedWords:
    """The words that the head is trained on: `config.images` of the usable ones, or all if None.

    They are drawn with the config's seed and stratified by the length of their labels
    (core/training/label_subset.py), because the first words of a root may be of one kind.

    Left out are words without label, with a label that is too long or that the charset cannot
    express, and, for head `characters`, words without boxes. This head also uses words of which the
    charset has some characters. The count of words without boxes is that of the words looked at
    until there are enough. Raises UserError if fewer than two words are left."""
    charset = make_charset(config.charset)
    filtered = frozenset(images.filtered.tolist())
    dropped = Dropped(filtered=len(filtered))
    selector = _Selector(images, config)
    lengths: dict[int, int] = {}  # number of a word with a usable label -> length of the label
    for number, label in enumerate(images.labels()):
        if number in filtered:
            continue
        if not label or len(label) >= config.max_length:
            dropped.unlabeled += not label
            dropped.over_long += bool(label)
        elif not _is_trainable(label, charset, config):
            dropped.unknown_characters += 1
        elif config.images is None:
            selector.add(number, label)
        else:
            lengths[number] = len(label)
    if config.images is not None:
        _draw(selector, lengths, config.images, config.seed)
    words = selector.words(dropped)
    if len(words.numbers) < 2:
        reasons = ", ".join(f"{reason} {count}" for reason, count in words.dropped.items() if count)
        hint = BOXES_HINT if selector.without_boxes else ""
        raise UserError(
            f"{', '.join(images.roots)}: {len(words.numbers)} of {len(images)} words can be used "
            f"to train the probe ({reasons}){hint}"
        )
    return words


def _draw(selector: "_Selector", lengths: Mapping[int, int], count: int, seed: int) -> None:
    """Collect `count` words that the head can use, or as many as there are.

    selector: collects them. lengths: number of a word -> length of its label. seed: of the run."""
    for number in stratified_order(lengths, seed).tolist():
        if len(selector.labels) == count:
            return
        selector.add(number, selector.images.label(number) or "")


def _is_trainable(label: str, charset: Charset, config: Probe) -> bool:
    """Whether the charset can express a label; for head `characters`, any character of it."""
    if config.needs_boxes:
        return len(charset.unknown_characters(label)) < len(set(charset.fold_case(label)))
    return charset.can_express(label, config.max_length)


class _Selector:
    """Collects words; head `characters` collects only words with boxes."""

    def __init__(self, images: WordImages, config: Probe) -> None:
        self.images = images
        self.needs_boxes = config.needs_boxes
        self.charset = make_charset(config.charset)
        self.labels: dict[int, str] = {}
        self.texts: dict[int, PlacedText] = {}
        self.without_boxes = 0

    def add(self, number: int, label: str) -> None:
        """Collect a word, or count it as one without boxes."""
        if self.needs_boxes:
            text = placed_text(self.images, number, label, self.charset)
            if text is None:
                self.without_boxes += 1
                return
            self.texts[number] = text
        self.labels[number] = label

    def words(self, dropped: Dropped) -> SelectedWords:
        """The collected words. dropped: counts of the others."""
        counts = dropped.counts() | {"without_boxes": self.without_boxes}
        return SelectedWords(self.images, sorted(self.labels), self.labels, self.texts, counts)


BOXES_HINT = (
    "; head.kind: characters needs the boxes of the characters: render the words with "
    "synthetic.boxes: true, add boxes with `run.py data build --boxes`, or choose another head"
)


def evaluated_words(images: WordImages, config: Probe) -> SelectedWords:
    """The words that the head is tested on: all but those of filter lists.

    For head `characters` also words without boxes are left out. Raises UserError if none is left.
    """
    filtered = frozenset(images.filtered.tolist())
    selector = _Selector(images, config)
    for number, label in enumerate(images.labels()):
        if number not in filtered:
            selector.add(number, label or "")
    if not selector.labels:
        hint = BOXES_HINT if selector.without_boxes else ""
        raise UserError(f"{', '.join(images.roots)}: no word to test on{hint}")
    return selector.words(Dropped(filtered=len(filtered)))
