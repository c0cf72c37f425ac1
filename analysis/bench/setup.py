"""Models, batches and images that the benchmark measures: the paper's sizes, or tiny ones."""

from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.bench.budget import TimeBudget
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
from core.synthetic.config import Synthetic
from core.synthetic.dataset import write_splits

_folder = TemporaryDirectory(prefix="bench-")  # removed when the process exits


@dataclass(frozen=True)
class BenchSetup:
    """Sizes of what is measured.

    The paper's: ViT-S, images of 32 x 128, patches of 4 x 4, 80 % of them hidden, a
    reconstruction decoder of 2 blocks of width 512."""

    data: str  # an LMDB of word images
    device: str = "cpu"
    quick: bool = False  # tiny models and few repetitions: a check that everything works
    budget: TimeBudget = field(default_factory=TimeBudget, compare=False)

    def within(self, budget: TimeBudget) -> "BenchSetup":
        """The same sizes for a measurement with a limited time."""
        return replace(self, budget=budget)

    @property
    def name(self) -> str:
        """Of the model's size."""
        return "tiny" if self.quick else "ViT-S"

    @property
    def repetitions(self) -> int:
        """Turns that are counted, of a quick path."""
        return 2 if self.quick else 5

    @property
    def encoder(self) -> Encoder:
        """Sizes of the encoder."""
        return Encoder(width=32, depth=2, heads=2) if self.quick else Encoder()

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes of pre-training."""
        if self.quick:
            return (4,)
        return (16, 64) if self.device == "cpu" else (512, 2048)

    def pretrain(self, batch: int, precision: Precision) -> Pretrain:
        """LMIM with random-feature targets, whose cost is that of MAE-feature targets."""
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
        """Sizes of the recognizer."""
        decoder = {"width": 32, "heads": 2, "feedforward": 32, "layers": 2} if self.quick else {}
        return RecognizerModel(encoder=self.encoder, decoder=TextDecoder.model_validate(decoder))

    def finetune(self, batch: int, precision: Precision) -> Finetune:
        """Fine-tuning of the recognizer."""
        return Finetune(
            **dict(self.recognizer()),
            optimizer=Optimizer(base_lr=1e-4, batch=batch, layer_decay=0.75),
            data=Data(roots=(self.data,)),
            precision=precision,
            seed=0,
        )

    def images(self) -> WordImages:
        """The word images."""
        return WordImages([self.data])

    def batch(self, size: int) -> Batch:
        """A batch of the first images and their labels; images repeat if there are too few.

        Raises UserError if an image cannot be decoded."""
        images = self.images()
        numbers = [number % len(images) for number in range(size)]
        batch: Batch
        (batch,) = load_batches(images, self.encoder.image, [numbers], labeled=True, num_workers=0)
        if batch.unreadable:
            raise UserError(
                f"{self.data}: image {batch.unreadable[0] + 1} cannot be decoded;"
                " choose other data with --data"
            )
        return replace(batch, labels=[(label or "word")[:20] for label in batch.labels])


@cache
def rendered_words(count: int) -> str:
    """The path of an LMDB of rendered photographs of words, of about 100 x 40 pixels each."""
    folder = Path(_folder.name) / str(count)
    config = Synthetic(train=count, validation=1, vocabulary=2000, look="scene", image=(48, 128))
    for _ in write_splits(config, folder, processes=1, should_stop=lambda: False):
        pass
    return str(folder / "train")
