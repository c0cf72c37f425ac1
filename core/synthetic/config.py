"""Settings of the rendered data set."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from core.config import FrozenModel, Probability, Share, Size


class Rendered(FrozenModel):
    """The embedded data set (`core/synthetic/words.py`): how many rendered words, which words, how hard.

    `look`: page is dark ink on light ground, coloured any two colors, scene imitates photographs (and has no test subsets).
    Chinese words (`language: zh`) have looks of their own."""

    language: Literal["en", "zh"] = "en"
    seed: Annotated[int, Field(ge=0)] = 0
    train: PositiveInt
    validation: PositiveInt
    test: Annotated[int, Field(ge=0)] = 0  # images per test subset
    vocabulary: PositiveInt  # most frequent words
    letters: tuple[PositiveInt, PositiveInt] = (3, 7)
    image: Size = (32, 128)
    unseen: Share = 0.1  # of the vocabulary, kept out of training
    special: Probability = 0.4  # share of training words drawn in a test subset's special manner
    look: Literal["page", "coloured", "scene"] = "page"

    @model_validator(mode="after")
    def _ordered(self) -> "Rendered":
        if self.letters[0] > self.letters[1]:
            raise ValueError(f"letters {list(self.letters)}: the least comes first")
        if self.look == "scene" and self.test:
            raise ValueError(
                "look: scene has no test subsets; leave test out, and name real subsets"
            )
        if self.language == "zh" and (self.look, self.special) != ("page", 0.4):
            raise ValueError(
                "look and special are for English words; Chinese ones look as their subset's name says"
            )
        return self
