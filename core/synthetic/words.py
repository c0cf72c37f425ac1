"""The embedded data set: words of a real vocabulary, rendered, so that the suite runs on a machine with nothing.

Deterministic in (seed, split, index), given the library versions that `fingerprint` names. Splits: train, validation, and the
seven subsets of the Union14M-Benchmark, each drawn in the manner its name says (`core/synthetic/scene.py` draws another look, without
subsets; `core/synthetic/chinese.py` Chinese words, in the manners of the Chinese benchmark's four). A share of the vocabulary (`unseen`)
is never drawn in training (random letters may spell such a word); half of the words of validation and test are taken from it.
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from core.config import identity_fields
from core.data.lmdb_folder import Sample, new_lmdb, put_count, put_samples
from core.runtime.errors import UserError
from core.runtime.processes import worker_pool
from core.synthetic.chinese import MANNERS, render_chinese
from core.synthetic.chinese import frequent_words as chinese_words
from core.synthetic.config import Rendered
from core.synthetic.drawing import bend, cut_to_ink, draw_text, paint, place, slant
from core.synthetic.fonts import cjk_contents, cjk_faces, faces, font, packages
from core.synthetic.scene import render_scene, scene_label

RENDERER = 1  # raise when a change here alters any image
SUBSETS = (
    "curve",
    "multi_oriented",
    "artistic",
    "contextless",
    "salient",
    "multi_words",
    "general",
)
LIBRARIES = ("pillow", "numpy", "wordfreq", "matplotlib")
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))


def splits(config: Rendered) -> dict[str, int]:
    """Name of each split -> number of images."""
    subsets = MANNERS if config.language == "zh" else SUBSETS
    return {"train": config.train, "validation": config.validation} | (
        dict.fromkeys(subsets, config.test) if config.test else {}
    )


_version = cache(version)


def fingerprint(config: Rendered) -> str:
    """16 hex digits: the config, the renderer, and the libraries and system fonts that the pixels depend on.

    Raises UserError for Chinese words where no font has them."""
    tables = ("scene",) if config.look == "scene" else ("plain", "artistic")
    chinese = config.language == "zh"
    libraries = sorted({*LIBRARIES, *(() if chinese else packages(*tables))})
    parts: list[object] = [
        identity_fields(config),
        RENDERER,
        {name: _version(name) for name in libraries},
    ]
    if chinese:
        parts.append(cjk_contents(characters(config)))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _english_words(count: int, letters: tuple[int, int]) -> dict[str, float]:
    from wordfreq import iter_wordlist, word_frequency

    words = (word for word in iter_wordlist("en") if word.isascii() and word.isalpha())
    fitting = (word for word in words if letters[0] <= len(word) <= letters[1])
    return {word: word_frequency(word, "en") for word in islice(fitting, count)}


@cache
def characters(config: Rendered) -> str:
    """Every character of the vocabulary, in the order of their code points: the charset of Chinese words."""
    seen, _, unseen = vocabulary(config)
    return "".join(sorted(set("".join([*seen, *unseen]))))


@cache
def vocabulary(config: Rendered) -> tuple[list[str], np.ndarray, list[str]]:
    """(words seen in training, their cumulative probabilities, unseen words).

    The most frequent words of wordfreq that are plain letters, or Chinese characters, of the right length. A word is seen with
    a probability that grows as the square root of its frequency: by frequency, but not mostly "the"."""
    low, high = config.letters
    find = chinese_words if config.language == "zh" else _english_words
    frequencies = find(config.vocabulary, config.letters)
    words = list(frequencies)
    if len(words) < 2:
        reason = f"{len(words)} words have {low} to {high} letters"
        raise UserError(
            f"synthetic: {reason}; increase synthetic.vocabulary or widen synthetic.letters"
        )
    generator = np.random.default_rng([config.seed, 0])
    hidden = set(
        generator.permutation(len(words))[: max(1, round(config.unseen * len(words)))].tolist()
    )
    seen = [word for number, word in enumerate(words) if number not in hidden]
    weights = np.sqrt([frequencies[word] for word in seen])
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


def _draw_word(text: str, manner: str, size: int, random: np.random.Generator) -> Image.Image:
    """The word as a mask, cut to its ink; the artistic manner adds an outline, a shadow or a slant."""
    table = faces("artistic" if manner == "artistic" else "plain")
    face = font(*table[random.integers(len(table))], size)
    trick = int(random.integers(4)) if manner == "artistic" else 3
    mask = draw_text(text, face, trick)
    return cut_to_ink(slant(mask, random.uniform(-0.3, 0.3)) if trick == 2 else mask)


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


def render(config: Rendered, split: str, index: int) -> tuple[Image.Image, str]:
    """Image `index` of a split and its label. Training and validation mix plain words with every special manner."""
    names = list(splits(config))
    random = np.random.default_rng([config.seed, 1 + names.index(split), index])
    if config.look == "scene":
        text = scene_label(_word(config, split, random), random)
        return render_scene(text, random), text
    if config.language == "zh":
        text = _word(config, split, random)
        manner = split if split in MANNERS else str(random.choice(MANNERS))
        return render_chinese(
            text, manner, config.image, cjk_faces(characters(config)), random
        ), text
    manner = split
    if split not in SUBSETS:
        manner = SUBSETS[random.integers(6)] if random.random() < config.special else "general"
    text = _label(config, split, manner, random)
    mask = _draw_word(text, manner, int(random.integers(19, 24)), random)
    if manner == "curve":
        mask = bend(mask, random.choice((-1, 1)) * random.uniform(4, 10))
    elif manner == "multi_oriented":
        angle = random.choice((-1, 1)) * random.uniform(8, 30)
        mask = mask.rotate(angle, Image.Resampling.BILINEAR, expand=True)
        mask = mask.crop(mask.getbbox())
    else:
        mask = mask.rotate(random.normal(0, 1.0), Image.Resampling.BILINEAR, expand=True)
    canvas = place(mask, config.image, random)
    if manner == "salient":
        canvas = _distract(canvas, config, random)
    return paint(canvas, config.look == "coloured", random), text


def _render_chunk(config: Rendered, split: str, numbers: range) -> list[Sample]:
    samples: list[Sample] = []
    for index in numbers:
        picture, text = render(config, split, index)
        stream = io.BytesIO()
        quality = (
            35 + 37 * index % 61 if config.look == "scene" else 92
        )  # photographs: from poor to good, evenly
        picture.save(stream, "JPEG", quality=quality)
        samples.append((stream.getvalue(), text))
    return samples


def write(
    config: Rendered, folder: Path, processes: int, should_stop: Callable[[], bool]
) -> Iterator[tuple[int, int]]:
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
                results = pool.map(
                    _render_chunk, [config] * len(chunks), [split] * len(chunks), chunks
                )
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
