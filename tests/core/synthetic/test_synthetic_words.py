"""Synthetic words: deterministic rendering, disjoint splits, LMDB folders of the splits."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from core.data.word_images import WordImages
from core.synthetic.config import ENGLISH_SUBSETS, Synthetic, split_sizes
from core.synthetic.dataset import write_splits
from core.synthetic.vocabulary import make_vocabulary
from core.synthetic.words import render_word

SIZE = (32, 128)


def test_rendering_is_deterministic_in_seed_split_and_index(synthetic_words: Synthetic) -> None:
    first, again = (render_word(synthetic_words, "curve", 3) for _ in range(2))
    assert first[1] == again[1]
    assert first[0].tobytes() == again[0].tobytes()
    others = [
        render_word(synthetic_words.model_copy(update={"seed": 1}), "curve", 3),
        render_word(synthetic_words, "curve", 4),
    ]
    assert all(first[0].tobytes() != other[0].tobytes() for other in others)


def test_splits_share_no_image_and_test_words_include_unseen_ones() -> None:
    config = Synthetic(train=400, validation=60, test=60, vocabulary=600)
    pictures, words = {}, {}
    for split, size in split_sizes(config).items():
        samples = [render_word(config, split, index) for index in range(size)]
        pictures[split] = {image.tobytes() for image, _ in samples}
        words[split] = {word for _, text in samples for word in text.split()}
    names = list(pictures)
    assert not any(
        pictures[a] & pictures[b] for number, a in enumerate(names) for b in names[:number]
    )
    unseen = set(make_vocabulary(config)[2])
    trained = {word for word in words["train"] if word not in words["contextless"]}
    assert not unseen & trained
    for split in ("general", "curve", "multi_oriented", "artistic", "salient", "multi_words"):
        assert words[split] & unseen
        assert words[split] - unseen


def test_each_subset_has_the_labels_that_its_name_says(synthetic_words: Synthetic) -> None:
    seen, _, unseen = make_vocabulary(synthetic_words)
    vocabulary = {*seen, *unseen}
    labels = {
        name: [render_word(synthetic_words, name, index)[1] for index in range(30)]
        for name in ENGLISH_SUBSETS
    }
    assert all(" " in text for text in labels["multi_words"])
    assert not any(" " in text for name in labels if name != "multi_words" for text in labels[name])
    assert len(set(labels["contextless"]) - vocabulary) > 20
    assert set(labels["general"]) <= vocabulary
    assert all(
        image.getextrema()
        for image, _ in [render_word(synthetic_words, "artistic", index) for index in range(30)]
    )


def test_every_word_leaves_ink_on_its_image(synthetic_words: Synthetic) -> None:
    for split in ENGLISH_SUBSETS:
        for index in range(20):
            gray = np.asarray(render_word(synthetic_words, split, index)[0].convert("L"), float)
            assert np.percentile(gray, 95) - np.percentile(gray, 1) > 35, (split, index)


def test_splits_are_written_as_lmdb_folders(synthetic_words: Synthetic, tmp_path: Path) -> None:
    *_, last = write_splits(synthetic_words, tmp_path, 1, lambda: False)
    assert last == (98, 98)
    for split, size in split_sizes(synthetic_words).items():
        images = WordImages([str(tmp_path / split)])
        assert len(images) == size
        picture, text = render_word(synthetic_words, split, 2)
        assert images.label(2) == text
        read = images.image(2, SIZE)
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=92)
        assert read is not None
        assert np.array_equal(read.permute(1, 2, 0).numpy(), np.asarray(Image.open(stream)))


def test_an_interrupted_rendering_leaves_no_incomplete_split(
    synthetic_words: Synthetic, tmp_path: Path
) -> None:
    done = list(write_splits(synthetic_words, tmp_path, 1, lambda: True))
    assert len(done) == 1
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
