"""What is measured: the models and images of the paper's work, or tiny ones for a check that everything works."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from core.config import (
    Alignment,
    Data,
    Encoder,
    Finetune,
    Guidance,
    Mask,
    Optimizer,
    Precision,
    Pretrain,
    RandomFeatureTarget,
    RecognizerModel,
    ReconstructionDecoder,
    TextDecoder,
)
from core.data.batches import Batch, load_batches
from core.data.word_images import WordImages
from core.runtime.errors import UserError
from core.synthetic import words as synthetic
from core.synthetic.config import Rendered

_place = TemporaryDirectory(prefix="bench-")  # goes with the process


@dataclass(frozen=True)
class Work:
    """Sizes of what is measured. The whole work is the paper's: ViT-S, 32 x 128, patch 4, 80 % hidden, decoder 2 x 512."""

    data: str  # an LMDB of word images
    device: str = "cpu"
    quick: bool = False

    @property
    def name(self) -> str:
        return "tiny" if self.quick else "ViT-S"

    @property
    def repetitions(self) -> int:
        return 2 if self.quick else 5

    @property
    def encoder(self) -> Encoder:
        return Encoder(width=32, depth=2, heads=2) if self.quick else Encoder()

    @property
    def batches(self) -> tuple[int, ...]:
        if self.quick:
            return (4,)
        return (16, 64) if self.device == "cpu" else (512, 2048)

    def pretrain(self, batch: int, precision: Precision) -> Pretrain:
        """A random teacher stands in for MAE's: the work is the same."""
        decoder = {"width": 32, "heads": 2, "feedforward": 64} if self.quick else {}
        return Pretrain(
            encoder=self.encoder,
            decoder=ReconstructionDecoder.model_validate(decoder),
            guidance=Guidance(),
            alignment=Alignment(),
            target=RandomFeatureTarget(kind="random_feature"),
            mask=Mask(),
            optimizer=Optimizer(base_lr=1.5e-4, batch=batch, betas=(0.9, 0.95)),
            data=Data(roots=(self.data,)),
            precision=precision,
            seed=0,
        )

    def recognizer(self) -> RecognizerModel:
        decoder = {"width": 32, "heads": 2, "feedforward": 32, "layers": 2} if self.quick else {}
        return RecognizerModel(encoder=self.encoder, decoder=TextDecoder.model_validate(decoder))

    def finetune(self, batch: int, precision: Precision) -> Finetune:
        return Finetune(
            **dict(self.recognizer()),
            optimizer=Optimizer(base_lr=1e-4, batch=batch, layer_decay=0.75),
            data=Data(roots=(self.data,)),
            precision=precision,
            seed=0,
        )

    def images(self) -> WordImages:
        return WordImages([self.data])

    def batch(self, size: int) -> Batch:
        """The first images, again where there are fewer; with their labels. Raises UserError if one cannot be decoded."""
        images = self.images()
        numbers = [number % len(images) for number in range(size)]
        (batch,) = load_batches(images, self.encoder.image, [numbers], labeled=True, workers=0)
        if batch.unreadable:
            raise UserError(
                f"{self.data}: image {batch.unreadable[0] + 1} cannot be decoded; name other data with --data"
            )
        return replace(batch, labels=[(label or "word")[:20] for label in batch.labels])


@cache
def rendered_words(count: int) -> str:
    """An LMDB of rendered photographs of words, with sides as word photographs have them (a mean of about 100 x 40)."""
    folder = Path(_place.name) / str(count)
    config = Rendered(train=count, validation=1, vocabulary=2000, look="scene", image=(48, 128))
    for _ in synthetic.write(config, folder, processes=1, should_stop=lambda: False):
        pass
    return str(folder / "train")
