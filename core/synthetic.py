"""The embedded data set: words of a real vocabulary, rendered, so that the suite runs on a machine with nothing.

Deterministic in (seed, split, index), given the library versions that `fingerprint` names. Splits: train, validation, and the
seven subsets of the Union14M-Benchmark, each drawn in the manner its name says (`core/scene.py` draws another look, without
subsets). A share of the vocabulary (`unseen`) is never drawn in training (random letters may spell such a word); half of the
words of validation and test are taken from it.
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from core.config import Rendered
from core.errors import UserError
from core.fonts import faces, font, packages
from core.lmdb_writer import Sample, new_lmdb, put_count, put_samples
from core.processes import worker_pool
from core.scene import render_scene, scene_label

RENDERER = 1  # raise when a change here alters any image
SUBSETS = ("curve", "multi_oriented", "artistic", "contextless", "salient", "multi_words", "general")
LIBRARIES = ("pillow", "numpy", "wordfreq", "matplotlib")
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))


def splits(config: Rendered) -> dict[str, int]:
    """Name of each split -> number of images."""
    return {"train": config.train, "validation": config.validation} | (
        dict.fromkeys(SUBSETS, config.test) if config.test else {}
    )


def fingerprint(config: Rendered) -> str:
    """16 hex digits: the config, the renderer, and the libraries whose versions the pixels depend on."""
    tables = ("scene",) if config.look == "scene" else ("plain", "artistic")
    libraries = sorted({*LIBRARIES, *packages(*tables)})
    parts = [config.model_dump(mode="json"), RENDERER, {name: version(name) for name in libraries}]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@cache
def vocabulary(config: Rendered) -> tuple[list[str], np.ndarray, list[str]]:
    """(words seen in training, their cumulative probabilities, unseen words).

    The most frequent English words of wordfreq that are plain letters of the right length. A word is seen with a probability
    that grows as the square root of its frequency: by frequency, but not mostly "the"."""
    from wordfreq import iter_wordlist, word_frequency

    low, high = config.letters
    words: list[str] = []
    for word in iter_wordlist("en"):
        if word.isascii() and word.isalpha() and low <= len(word) <= high:
            words.append(word)
        if len(words) == config.vocabulary:
            break
    if len(words) < 2:
        reason = f"{len(words)} words have {low} to {high} letters"
        raise UserError(f"rendered: {reason}; allow more with rendered.vocabulary or rendered.letters")
    generator = np.random.default_rng([config.seed, 0])
    hidden = set(generator.permutation(len(words))[: max(1, round(config.unseen * len(words)))].tolist())
    seen = [word for number, word in enumerate(words) if number not in hidden]
    weights = np.sqrt([word_frequency(word, "en") for word in seen])
    return seen, np.cumsum(weights / weights.sum()), [words[number] for number in sorted(hidden)]


def _word(config: Rendered, split: str, random: np.random.Generator) -> str:
    seen, cumulative, unseen = vocabulary(config)
    if split != "train" and random.random() < 0.5:
        return unseen[random.integers(len(unseen))]
    return seen[min(int(np.searchsorted(cumulative, random.random())), len(seen) - 1)]


def _label(config: Rendered, split: str, manner: str, random: np.random.Generator) -> str:
    low, high = config.letters
    if manner == "contextless":
        return "".join(random.choice(LETTERS, random.integers(low, high + 1)))
    if manner == "multi_words":
        while True:
            text = " ".join(_word(config, split, random) for _ in range(2))
            if len(text) <= high + low + 1:
                return text
    return _word(config, split, random)


def _draw_text(text: str, manner: str, size: int, random: np.random.Generator) -> Image.Image:
    """The word as a mask (L), cut to its ink; the artistic manner adds an outline, a shadow or a slant."""
    table = faces("artistic" if manner == "artistic" else "plain")
    face = font(*table[random.integers(len(table))], size)
    left, top, right, bottom = face.getbbox(text)
    canvas = Image.new("L", (int(right - left) + 8, int(bottom - top) + 8))
    place = (4 - left, 4 - top)
    draw = ImageDraw.Draw(canvas)
    trick = random.integers(4) if manner == "artistic" else 3
    if trick == 0:
        draw.text(place, text, fill=90, font=face, stroke_width=2, stroke_fill=255)
    elif trick == 1:
        draw.text((place[0] + 2, place[1] + 2), text, fill=110, font=face)
        draw.text(place, text, fill=255, font=face)
    else:
        draw.text(place, text, fill=255, font=face)
    if trick == 2:
        slant = random.uniform(-0.3, 0.3)
        canvas = canvas.transform(canvas.size, Image.Transform.AFFINE, (1, slant, -slant * canvas.height / 2, 0, 1, 0))
    return canvas.crop(canvas.getbbox() or (0, 0, 1, 1))


def _bend(mask: Image.Image, sag: float) -> Image.Image:
    """Shift columns along a parabola whose ends lie `sag` pixels lower (higher if negative) than its middle."""
    pixels = np.asarray(mask)
    height, width = pixels.shape
    shift = np.rint(abs(sag) * (np.linspace(-1, 1, width) ** 2 if sag > 0 else 1 - np.linspace(-1, 1, width) ** 2)).astype(int)
    bent = np.zeros((height + int(np.ceil(abs(sag))), width), np.uint8)
    rows = np.arange(height)[:, None] + shift
    bent[rows, np.arange(width)] = pixels
    return Image.fromarray(bent)


def _place(mask: Image.Image, manner: str, image: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """The word on a canvas of the image's size: left-aligned, a little off, smaller where it would not fit."""
    height, width = image
    room = (width - 6, height - 4)
    scale = min(1.0, room[0] / mask.width, room[1] / mask.height)
    if scale < 1.0:
        mask = mask.resize((max(1, round(mask.width * scale)), max(1, round(mask.height * scale))), Image.Resampling.BILINEAR)
    canvas = Image.new("L", (width, height))
    free = height - mask.height
    y = min(max(round(free / 2 + random.normal(0, 1.2)), 0), free)
    canvas.paste(mask, (min(2 + int(random.integers(0, 3)), width - mask.width), y))
    return canvas


def _distract(canvas: Image.Image, config: Rendered, random: np.random.Generator) -> Image.Image:
    """Salient manner: fragments of another, fainter and smaller text above, below or to the right of the word."""
    other = Image.new("L", canvas.size)
    table = faces("plain")
    face = font(*table[random.integers(len(table))], int(random.integers(10, 15)))
    text = _word(config, "train", random)
    end = (canvas.getbbox() or (0, 0, 0, 0))[2]
    along, across = int(random.integers(0, 60)), int(random.integers(2, 14))
    place = [(along, -7), (along, canvas.height - 7), (end + 6, across)][random.integers(3)]
    ImageDraw.Draw(other).text(place, text, fill=int(random.integers(90, 170)), font=face)
    return Image.fromarray(np.maximum(np.asarray(canvas), np.asarray(other)))


def _paint(mask: Image.Image, colour: bool, random: np.random.Generator) -> Image.Image:
    """Ink on ground: a light, sloping ground and dark ink, or any two colours that differ enough; then blur and noise."""
    cover = np.asarray(mask, np.float32)[..., None] / 255
    if colour:
        ground, ink = random.uniform(0, 255, (2, 3))
        while abs((ground - ink) @ (0.299, 0.587, 0.114)) < 60:
            ground, ink = random.uniform(0, 255, (2, 3))
    else:
        ground, ink = random.uniform(170, 250, 3) * 0.3 + random.uniform(170, 250) * 0.7, random.uniform(0, 90, 3)
    slope = random.uniform(-20, 20) * np.linspace(-1, 1, mask.width, dtype=np.float32)
    picture = (ground + slope[None, :, None]) * (1 - cover) + ink * cover
    picture += random.normal(0, random.uniform(1, 8), (mask.height, mask.width, 1)).astype(np.float32)
    painted = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    sigma = random.uniform(0, 0.9)
    return painted.filter(ImageFilter.GaussianBlur(sigma)) if sigma > 0.3 else painted


def render(config: Rendered, split: str, index: int) -> tuple[Image.Image, str]:
    """Image `index` of a split and its label. Training and validation mix plain words with every special manner."""
    names = list(splits(config))
    random = np.random.default_rng([config.seed, 1 + names.index(split), index])
    if config.look == "scene":
        text = scene_label(_word(config, split, random), random)
        return render_scene(text, random), text
    manner = split
    if split not in SUBSETS:
        manner = SUBSETS[random.integers(6)] if random.random() < config.special else "general"
    text = _label(config, split, manner, random)
    mask = _draw_text(text, manner, int(random.integers(19, 24)), random)
    if manner == "curve":
        mask = _bend(mask, random.choice((-1, 1)) * random.uniform(4, 10))
    elif manner == "multi_oriented":
        angle = random.choice((-1, 1)) * random.uniform(8, 30)
        mask = mask.rotate(angle, Image.Resampling.BILINEAR, expand=True)
        mask = mask.crop(mask.getbbox())
    else:
        mask = mask.rotate(random.normal(0, 1.0), Image.Resampling.BILINEAR, expand=True)
    canvas = _place(mask, manner, config.image, random)
    if manner == "salient":
        canvas = _distract(canvas, config, random)
    return _paint(canvas, config.look == "coloured", random), text


def _render_chunk(config: Rendered, split: str, numbers: range) -> list[Sample]:
    samples: list[Sample] = []
    for index in numbers:
        picture, text = render(config, split, index)
        stream = io.BytesIO()
        quality = 35 + 37 * index % 61 if config.look == "scene" else 92  # photographs: from poor to good, evenly
        picture.save(stream, "JPEG", quality=quality)
        samples.append((stream.getvalue(), text))
    return samples


def write(config: Rendered, folder: Path, processes: int, should_stop: Callable[[], bool]) -> Iterator[tuple[int, int]]:
    """Render every split into `folder`/NAME as LMDB; yields (images done, images in all).

    Each split appears under its name only when it is whole; splits already there are kept. When `should_stop` turns true it
    ends early: the last yield then falls short of the total. Raises UserError if the disk is full."""
    sizes = splits(config)
    done, total = 0, sum(sizes.values())
    with worker_pool(processes) as pool:
        for split, size in sizes.items():
            if (folder / split).is_dir():
                done += size
                continue
            temporary = folder / f".{split}.{os.getpid()}"
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            with new_lmdb(temporary) as environment:
                chunks = [range(start, min(start + 500, size)) for start in range(0, size, 500)]
                results = pool.map(_render_chunk, [config] * len(chunks), [split] * len(chunks), chunks)
                for chunk, samples in zip(chunks, results, strict=True):
                    with environment.begin(write=True) as transaction:
                        put_samples(transaction, chunk.start + 1, samples)
                    done += len(chunk)
                    yield done, total
                    if should_stop():
                        pool.shutdown(cancel_futures=True)
                        shutil.rmtree(temporary)
                        return
                with environment.begin(write=True) as transaction:
                    put_count(transaction, size)
            os.replace(temporary, folder / split)
