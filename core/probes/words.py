"""The words that a probe uses, and the positions of their characters."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from core.config import HiddenLetterHead, Probe
from core.data.hidden_letter import HiddenColumns, hidden_columns, hidden_place
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


class HiddenLetter(NamedTuple):
    """The hidden letter of a word. place: of its character in the label. columns: of pixels."""

    place: int
    columns: HiddenColumns


@dataclass(frozen=True)
class SelectedWords:
    """Words of a data set that a probe uses.

    numbers: their numbers in the data set, ascending.
    labels: number -> label; "" if there is none.
    texts: number -> the characters that have boxes; with head `hidden_letter` the hidden one alone.
        Empty with other heads.
    dropped: reason -> words that are not used.
    hidden: number -> the letter that the encoder does not see; only with head `hidden_letter`.
    """

    images: WordImages
    numbers: list[int]
    labels: dict[int, str]
    texts: dict[int, PlacedText]
    dropped: dict[str, int]
    hidden: dict[int, HiddenLetter] = field(default_factory=dict)

    def reference(self, number: int) -> str:
        """The text that a prediction is compared with: the characters with boxes, or the label."""
        text = self.texts.get(number)
        return self.labels[number] if text is None else text.text


class PlacedCharacter(NamedTuple):
    """A character with a box. place: in the label. left, right: as shares of the image's width."""

    place: int
    left: float
    right: float

    @property
    def middle(self) -> float:
        """The horizontal middle of the box, as a share of the image's width."""
        return (self.left + self.right) / 2


def placed_characters(images: WordImages, number: int, label: str) -> list[PlacedCharacter]:
    """The characters of a word that have boxes, without spaces.

    images: the data set. number, label: of the word."""
    boxes = images.boxes(number)
    if boxes is None or len(boxes) != len(label):
        return []
    raw = images.raw(number)
    size = None if raw is None else image_size(raw)
    if size is None:
        return []
    return [
        PlacedCharacter(place, box[0] / size[0], box[2] / size[0])
        for place, (character, box) in enumerate(zip(label, boxes, strict=True))
        if box is not None and not character.isspace()
    ]


def placed_text(
    characters: Collection[PlacedCharacter], label: str, charset: Charset
) -> PlacedText:
    """Some characters of a label with their middles. charset: which gives the case."""
    text = charset.fold_case("".join(label[character.place] for character in characters))
    return PlacedText(text, tuple(character.middle for character in characters))


def training_words(
    images: WordImages, config: Probe, test_labels: Collection[str] = frozenset()
) -> SelectedWords:
    """The words that the head is trained on: `config.images` of the usable ones, or all if None.

    They are drawn with the config's seed and stratified by the length of their labels
    (core/training/label_subset.py), because the first words of a root may be of one kind.

    Left out are words without label, with a label that is too long or that the charset cannot
    express, and, for a head that needs boxes, words without them. Such a head also uses words of
    which the charset has some characters. The count of words without boxes is that of the words
    looked at until there are enough. Raises UserError if fewer than two words are left.

    images: to choose from.
    config: of the stage.
    test_labels: words with these labels, in the charset's case, are left out too."""
    charset = make_charset(config.charset)
    filtered = frozenset(images.filtered.tolist())
    dropped = Dropped(filtered=len(filtered))
    selector = _Selector(images, config)
    in_test = 0
    lengths: dict[int, int] = {}  # number of a word with a usable label -> length of the label
    for number, label in enumerate(images.labels()):
        if number in filtered:
            continue
        if not label or len(label) >= config.max_length:
            dropped.unlabeled += not label
            dropped.over_long += bool(label)
        elif not _is_trainable(label, charset, config):
            dropped.unknown_characters += 1
        elif charset.fold_case(label) in test_labels:
            in_test += 1
        elif config.images is None:
            selector.add(number, label)
        else:
            lengths[number] = len(label)
    if config.images is not None:
        _draw(selector, lengths, config.images, config.seed)
    words = selector.words(dropped)
    if test_labels:
        words.dropped["in_test"] = in_test
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
    """Whether the charset can express a label; for a head with boxes, any character of it."""
    if config.needs_boxes:
        return len(charset.unknown_characters(label)) < len(set(charset.fold_case(label)))
    return charset.can_express(label, config.max_length)


class _Selector:
    """Collects words; a head that needs boxes collects only words with boxes."""

    def __init__(self, images: WordImages, config: Probe) -> None:
        self.images = images
        self.config = config
        self.charset = make_charset(config.charset)
        self.labels: dict[int, str] = {}
        self.texts: dict[int, PlacedText] = {}
        self.hidden: dict[int, HiddenLetter] = {}
        self.without_boxes = 0

    def add(self, number: int, label: str) -> None:
        """Collect a word, or count it as one without boxes."""
        if self.config.needs_boxes:
            characters = placed_characters(self.images, number, label)
            if not characters:
                self.without_boxes += 1
                return
            if isinstance(self.config.head, HiddenLetterHead):
                characters = [characters[hidden_place(number, len(characters))]]
                self.hidden[number] = self._hide(characters[0], self.config.head)
            self.texts[number] = placed_text(characters, label, self.charset)
        self.labels[number] = label

    def _hide(self, character: PlacedCharacter, head: HiddenLetterHead) -> HiddenLetter:
        columns = hidden_columns(character.left, character.right, self.config.encoder, head.margin)
        return HiddenLetter(character.place, columns)

    def words(self, dropped: Dropped) -> SelectedWords:
        """The collected words. dropped: counts of the others."""
        counts = dropped.counts() | {"without_boxes": self.without_boxes}
        numbers = sorted(self.labels)
        return SelectedWords(self.images, numbers, self.labels, self.texts, counts, self.hidden)


BOXES_HINT = (
    "; this head.kind needs the boxes of the characters: render the words with "
    "synthetic.boxes: true, add boxes with `run.py data build --boxes`, or choose another head"
)


def evaluated_words(images: WordImages, config: Probe) -> SelectedWords:
    """The words that the head is tested on: all but those of filter lists.

    For a head that needs boxes, words without them are left out. Raises UserError if none is left.
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
