"""The section of a card that says how to load the model: lines of Python that work as they are."""

import json
from collections.abc import Iterator
from pathlib import Path

from analysis.cards.lineage import CardRuns, is_recognizer
from core.text.markdown import code_span, fenced
from results.provenance import display_path

READING = """\
from pathlib import Path

import torch

from core.checkpoints.hub import load_model
from core.data.batches import normalize, to_unit
from core.data.word_images import decode_image, resize_image
{more}
# In evaluation mode, on the CPU:
model = load_model({place})
picture = decode_image(Path("word.png").read_bytes())  # an image of one word, as RGB
pixels = resize_image(picture, model.config{encoder}.image)  # (3, height, width) of 0 to 255
images = normalize(to_unit(pixels[None], torch.device("cpu")))  # (1, 3, height, width) in [-1, 1]
"""
RECOGNIZER = """\
((text, confidence),) = recognize_batch(model, images)
print(text, confidence)
"""
ENCODER = """\
with torch.inference_mode():
    features = model(images)  # (1, 1 + patches, width): [cls], then the patches row by row
print(features.shape)
"""


def loading_section(runs: CardRuns, hub_folder: Path | None) -> Iterator[str]:
    """How to load the model. hub_folder: the folder with the card; None: the run's own."""
    weights = runs.weights
    if weights is None:
        yield (
            "The weights are not kept beside the record of this run, so there is nothing to load. "
            "Add them with `run.py unbundle`, or run its experiment in another results folder."
        )
        return
    yield (
        "The code is the suite's, in a version that has the module `core.checkpoints.hub`; this "
        "card does not know its address. In the folder of the suite, after `pip install -r "
        "requirements.txt`:"
    )
    yield ""
    place = display_path(weights) if hub_folder is None else hub_folder.resolve().name
    yield from fenced(python_lines(place, recognizer=is_recognizer(runs.model.config)), "python")
    yield ""
    if hub_folder is None:
        yield "The path is that of the results folder on the machine that wrote this card."
    else:
        yield (
            f"{code_span(place)} is the folder of this card, with `model.safetensors` and "
            "`config.json`. Nothing in it is a pickle, and loading it executes no code of it."
        )


def python_lines(place: str, *, recognizer: bool) -> str:
    """Lines of Python that load a model and apply it to the image `word.png`.

    place: folder or file of the model, relative to the working directory."""
    more = "from core.training.evaluate import recognize_batch\n" if recognizer else ""
    encoder = ".encoder" if recognizer else ""
    head = READING.format(more=more, place=json.dumps(place, ensure_ascii=False), encoder=encoder)
    return head + (RECOGNIZER if recognizer else ENCODER)
