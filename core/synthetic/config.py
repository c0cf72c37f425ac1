"""Settings of the synthetic words, and the splits that follow from them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from core.config import FrozenModel, Probability, Share, Size
from core.runtime.number_types import Integer, PositiveInt

ENGLISH_SUBSETS = (  # of the Union14M-Benchmark
    "curve",
    "multi_oriented",
    "artistic",
    "contextless",
    "salient",
    "multi_words",
    "general",
)
# Words of which one letter is to be hidden -> images for each image of a test subset. A training
# never sees these images, but it sees their words.
LANGUAGE_SPLITS = {"language_train": 15, "language_words": 5, "random_letters": 5}
CHINESE_SUBSETS = ("scene", "web", "document", "handwriting")  # of the Chinese benchmark


class Synthetic(FrozenModel):
    """Settings of the synthetic words: how many, which words, and how they look.

    `look`: page is dark ink on a light background; coloured uses any two colors; scene imitates
    photographs and has no test subsets. Chinese words (`language: zh`) look as their subset's name
    says."""

    language: Literal["en", "zh"] = "en"
    seed: Annotated[Integer, Field(ge=0)] = 0
    train: PositiveInt  # images
    validation: PositiveInt  # images
    test: Annotated[Integer, Field(ge=0)] = 0  # images per test subset
    vocabulary: PositiveInt  # number of words, the most frequent ones
    letters: tuple[PositiveInt, PositiveInt] = (3, 7)  # least and most characters of a word
    image: Size = (32, 128)
    unseen: Share = 0.1  # share of the vocabulary that is kept out of training
    special: Probability = 0.4  # share of training words in the style of a special test subset
    look: Literal["page", "coloured", "scene"] = "page"
    # Whether the boxes of the characters are stored beside the labels (core/data/character_boxes).
    # Images and labels do not depend on it.
    boxes: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> "Synthetic":
        least, most = self.letters
        if least > most:
            raise ValueError(f"letters: {least} is more than {most}; give least and most in order")
        if self.look == "scene" and self.test:
            raise ValueError("look: scene has no test subsets; leave out test, name real subsets")
        if self.language == "zh" and (self.look, self.special) != ("page", 0.4):
            raise ValueError("look and special are for English words only; leave them out")
        return self


def split_sizes(config: Synthetic) -> dict[str, int]:
    """Name of each split -> number of images."""
    subsets = CHINESE_SUBSETS if config.language == "zh" else ENGLISH_SUBSETS
    sizes = {"train": config.train, "validation": config.validation}
    if config.test:
        sizes |= dict.fromkeys(subsets, config.test)
    return sizes


def language_sizes(config: Synthetic) -> dict[str, int]:
    """Name of each split for hidden letters (core/synthetic/language.py) -> number of images.

    Empty if the config has no such words: Chinese ones, photographs, or no test subsets. The splits
    are rendered when a run needs them."""
    if config.language == "zh" or config.look == "scene":
        return {}
    return {name: factor * config.test for name, factor in LANGUAGE_SPLITS.items() if config.test}
