"""Synthetic words: deterministic rendering, disjoint splits, LMDB folders of the splits."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from core.data.word_images import WordImages
from core.synthetic import words as synthetic
from core.synthetic.config import Rendered

SIZE = (32, 128)


def test_rendering_is_deterministic_in_seed_split_and_index(rendered: Rendered) -> None:
    first, again = (synthetic.render(rendered, "curve", 3) for _ in range(2))
    assert first[1] == again[1]
    assert first[0].tobytes() == again[0].tobytes()
    others = [
        synthetic.render(rendered.model_copy(update={"seed": 1}), "curve", 3),
        synthetic.render(rendered, "curve", 4),
    ]
    assert all(first[0].tobytes() != other[0].tobytes() for other in others)


def test_splits_share_no_image_and_test_words_include_unseen_ones() -> None:
    config = Rendered(train=400, validation=60, test=60, vocabulary=600)
    pictures, words = {}, {}
    for split, size in synthetic.splits(config).items():
        samples = [synthetic.render(config, split, index) for index in range(size)]
        pictures[split] = {image.tobytes() for image, _ in samples}
        words[split] = {word for _, text in samples for word in text.split()}
    names = list(pictures)
    assert not any(
        pictures[a] & pictures[b] for number, a in enumerate(names) for b in names[:number]
    )
    unseen = set(synthetic.vocabulary(config)[2])
    trained = {word for word in words["train"] if word not in words["contextless"]}
    assert not unseen & trained
    for split in ("general", "curve", "multi_oriented", "artistic", "salient", "multi_words"):
        assert words[split] & unseen
        assert words[split] - unseen


def test_each_subset_has_the_labels_that_its_name_says(rendered: Rendered) -> None:
    seen, _, unseen = synthetic.vocabulary(rendered)
    vocabulary = {*seen, *unseen}
    labels = {
        name: [synthetic.render(rendered, name, index)[1] for index in range(30)]
        for name in synthetic.SUBSETS
    }
    assert all(" " in text for text in labels["multi_words"])
    assert not any(" " in text for name in labels if name != "multi_words" for text in labels[name])
    assert len(set(labels["contextless"]) - vocabulary) > 20
    assert set(labels["general"]) <= vocabulary
    assert all(
        image.getextrema()
        for image, _ in [synthetic.render(rendered, "artistic", index) for index in range(30)]
    )


def test_every_word_leaves_ink_on_its_image(rendered: Rendered) -> None:
    for split in synthetic.SUBSETS:
        for index in range(20):
            gray = np.asarray(synthetic.render(rendered, split, index)[0].convert("L"), float)
            assert np.percentile(gray, 95) - np.percentile(gray, 1) > 35, (split, index)


def test_splits_are_written_as_lmdb_folders(rendered: Rendered, tmp_path: Path) -> None:
    *_, last = synthetic.write(rendered, tmp_path, 1, lambda: False)
    assert last == (98, 98)
    for split, size in synthetic.splits(rendered).items():
        images = WordImages([str(tmp_path / split)])
        assert len(images) == size
        picture, text = synthetic.render(rendered, split, 2)
        assert images.label(2) == text
        read = images.image(2, SIZE)
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=92)
        assert read is not None
        assert np.array_equal(read.permute(1, 2, 0).numpy(), np.asarray(Image.open(stream)))


def test_an_interrupted_rendering_leaves_no_incomplete_split(
    rendered: Rendered, tmp_path: Path
) -> None:
    done = list(synthetic.write(rendered, tmp_path, 1, lambda: True))
    assert len(done) == 1
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
