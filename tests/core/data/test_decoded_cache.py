"""Decoded images on disk: equal to decoding, whatever is read, written or changed at once."""

import io
import multiprocessing
import os
import pickle
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import PIL
import pytest
import torch
from conftest import jpeg, write_lmdb
from PIL import Image
from torch import Tensor

from core.data import word_images
from core.data.batches import load_batches
from core.data.decoded_cache import DecodedCache, DecodedImages, content_name, pixel_bytes
from core.data.lmdb_folder import IMAGE_KEY
from core.data.record_cache import RecordFile, record_bytes
from core.data.word_images import WordImages

SIZE = (16, 40)
BROKEN = [3, 4, 5]  # of `words`
Read = list[Tensor | None]


def encoded(mode: str, size: tuple[int, int], file_format: str, **options: Any) -> bytes:
    """An image file of noise."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    noise = np.random.default_rng(channels).integers(0, 256, (*size[::-1], channels), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise.squeeze()).save(stream, file_format, **options)
    return stream.getvalue()


@pytest.fixture
def words(tmp_path: Path) -> str:
    lying = Image.Exif()
    lying[0x0112] = 6  # orientation
    files = [
        encoded("RGB", SIZE[::-1], "JPEG"),  # not resized
        encoded("RGB", (90, 33), "JPEG", exif=lying),
        encoded("RGBA", (20, 50), "PNG"),
        b"not an image",
        None,
        jpeg(2)[:300],
        encoded("RGB", (7, 9), "GIF"),
        encoded("L", (40, 16), "JPEG"),
    ]
    return write_lmdb(tmp_path / "words", [(file, "word") for file in files])


@pytest.fixture
def cache(tmp_path: Path) -> DecodedCache:
    return DecodedCache(tmp_path / "cache")


def read_all(root: str, cache: DecodedCache | None, size: tuple[int, int] = SIZE) -> Read:
    images = WordImages([root], cache=cache)
    return [images.image(number, size) for number in range(len(images))]


def read_in_order(root: str, folder: Path, order: list[int]) -> list[list[int] | None]:
    """The pixels of images that a process with its own cache object reads."""
    images = WordImages([root], cache=DecodedCache(folder))
    pixels = [images.image(number, SIZE) for number in order]
    return [None if image is None else image.flatten().tolist() for image in pixels]


def assert_equal(actual: Read, expected: Read) -> None:
    assert len(actual) == len(expected)
    for image, other in zip(actual, expected, strict=True):
        assert (image is None) == (other is None)
        if image is not None and other is not None:
            assert image.dtype == other.dtype == torch.uint8
            assert torch.equal(image, other)


def forbid_decoding(monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    """From now on only the broken images of `words` may be decoded."""
    broken = {WordImages([root]).raw(number) for number in BROKEN}

    def decode(raw: bytes) -> None:
        assert raw in broken

    monkeypatch.setattr(word_images, "decode_image", decode)


def in_new_process(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function where no root is open. This process, too, opens its roots again later."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def change_image(root: str, number: int, file: bytes) -> None:
    with lmdb.open(root) as environment, environment.begin(write=True) as transaction:
        transaction.put(IMAGE_KEY.format(number + 1).encode(), file)


def test_cached_images_equal_decoded_ones(
    words: str, cache: DecodedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_all(words, None)
    assert [number for number, image in enumerate(expected) if image is None] == BROKEN
    assert_equal(read_all(words, cache), expected)  # decodes and stores
    forbid_decoding(monkeypatch, words)
    assert_equal(read_all(words, cache), expected)
    assert_equal(read_all(words, DecodedCache(cache.cache.folder)), expected)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_equal_with_and_without_a_cache(
    words: str, cache: DecodedCache, num_workers: int
) -> None:
    order = [[0, 3, 1], [2, 6, 7], [5, 7, 0]]
    expected = list(load_batches(WordImages([words]), SIZE, order, labeled=True, num_workers=0))
    for _ in range(2):
        images = WordImages([words], cache=cache)
        batches = list(load_batches(images, SIZE, order, labeled=True, num_workers=num_workers))
        for batch, other in zip(batches, expected, strict=True):
            assert torch.equal(batch.images, other.images)
            assert batch.images.stride() == other.images.stride()
            assert (batch.indices, batch.unreadable) == (other.indices, other.unreadable)
    assert len(list(cache.cache.folder.iterdir())) == 1


def test_each_root_and_size_has_its_images(words: str, cache: DecodedCache, tmp_path: Path) -> None:
    other = write_lmdb(tmp_path / "other", [(jpeg(number), "word") for number in range(3)])
    for _ in range(2):
        images = WordImages([other, words], cache=cache)
        for size in (SIZE, SIZE[::-1], (8, 8)):
            plain = WordImages([other, words])
            read = [images.image(number, size) for number in range(len(images))]
            assert_equal(read, [plain.image(number, size) for number in range(len(plain))])
    assert len(list(cache.cache.folder.iterdir())) == 6


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_processes_fill_a_cache_at_once(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 200
    files = [encoded("RGB", (20 + number % 50, 20), "JPEG") for number in range(count)]
    root = write_lmdb(tmp_path / "words", [(file, "word") for file in files])
    expected = [image for image in read_all(root, None) if image is not None]
    pixels = [image.flatten().tolist() for image in expected]
    orders = [list(range(count)), list(range(count))[::-1]]
    folder = tmp_path / "cache"
    with multiprocessing.get_context(method).Pool(len(orders)) as pool:
        read = pool.starmap(read_in_order, [(root, folder, order) for order in orders], 1)
    for order, images in zip(orders, read, strict=True):
        assert images == [pixels[number] for number in order]
    monkeypatch.setattr(word_images, "decode_image", None)
    assert_equal(read_all(root, DecodedCache(folder)), [*expected])


def test_an_open_cache_can_be_sent_to_a_process(words: str, cache: DecodedCache) -> None:
    images = WordImages([words], cache=cache)
    images.image(0, SIZE)
    sent = pickle.loads(pickle.dumps(images))
    assert_equal([sent.image(0, SIZE)], [images.image(0, SIZE)])


@pytest.mark.parametrize("damage", ["half a record", "zeros", "one byte", "cut short", "moved"])
def test_a_torn_record_is_decoded_again(words: str, cache: DecodedCache, damage: str) -> None:
    expected = read_all(words, None)
    read_all(words, cache)
    (path,) = cache.cache.folder.iterdir()
    length = record_bytes(pixel_bytes(SIZE))
    content = bytearray(path.read_bytes())
    assert len(content) == 8 * length
    last = slice(7 * length, 8 * length)
    first = bytes(content[:length])
    match damage:
        case "half a record":
            content[7 * length + length // 2 : 8 * length] = bytes(length - length // 2)
        case "zeros":
            content[last] = bytes(length)
        case "one byte":
            content[-1] ^= 1
        case "moved":
            content[last] = first
        case "cut short":
            del content[-1:]
    path.write_bytes(content)
    assert RecordFile(path, pixel_bytes(SIZE)).read(7) is None
    assert_equal(read_all(words, DecodedCache(cache.cache.folder)), expected)
    assert RecordFile(path, pixel_bytes(SIZE)).read(7) is not None


def test_an_image_that_was_never_written_is_absent(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100 * record_bytes(3)))
    images = DecodedImages(RecordFile(path, 3), (1, 1))
    assert all(images.read(number) is None for number in range(200))


@pytest.mark.parametrize("change", ["in place", "replaced"])
def test_a_changed_root_is_not_served_from_an_old_cache(
    cache: DecodedCache, tmp_path: Path, change: str
) -> None:
    count = 2000  # more than the images that a fingerprint covers
    samples: list[tuple[bytes | None, str | None]] = [
        (jpeg(number % 250), "") for number in range(count)
    ]
    root = write_lmdb(tmp_path / "words", samples)
    number = 1234
    before = read_all(root, cache)[number]
    file = jpeg(7)
    if change == "in place":
        in_new_process(change_image, root, number, file)
    else:
        shutil.copytree(root, tmp_path / "new")
        in_new_process(change_image, str(tmp_path / "new"), number, file)
        shutil.rmtree(root)
        os.rename(tmp_path / "new", root)
    (pixels,) = in_new_process(read_in_order, root, cache.cache.folder, [number])
    after = read_all(root, None)[number]
    assert before is not None
    assert after is not None
    assert not torch.equal(before, after)
    assert pixels == after.flatten().tolist()


def test_other_decoders_do_not_share_a_cache(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = content_name(words, SIZE)
    assert content_name(words, SIZE) == name
    monkeypatch.setattr(PIL, "__version__", "1.0")
    assert content_name(words, SIZE) != name


def test_a_root_above_the_budget_is_not_cached(words: str, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    needed = 8 * record_bytes(pixel_bytes(SIZE))
    assert_equal(read_all(words, DecodedCache(folder, needed - 1)), read_all(words, None))
    assert not list(folder.iterdir())
    read_all(words, DecodedCache(folder, needed))
    (path,) = folder.iterdir()
    assert path.stat().st_size == needed


def test_a_root_takes_at_most_a_tenth_of_the_free_space(
    words: str, cache: DecodedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 8 * record_bytes(pixel_bytes(SIZE))
    usage = namedtuple("usage", ["free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10 * needed - 1))
    assert cache.open(words, 8, SIZE) is None
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10 * needed))
    assert DecodedCache(cache.cache.folder).open(words, 8, SIZE) is not None


def test_the_file_used_longest_ago_makes_room(words: str, tmp_path: Path) -> None:
    needed = 8 * record_bytes(pixel_bytes(SIZE))
    cache = DecodedCache(tmp_path / "cache", 2 * needed)
    turned = SIZE[::-1]
    for time, size in enumerate((SIZE, turned)):
        assert cache.open(words, 8, size)
        os.utime(cache.cache.folder / content_name(words, size), (time, time))
    assert DecodedCache(cache.cache.folder, cache.cache.budget).open(words, 8, SIZE)  # a use
    read_all(words, cache, (40, 8))
    names = {path.name.partition("-")[0] for path in cache.cache.folder.iterdir()}
    assert names == {"16x40", "40x8"}
    assert_equal(read_all(words, cache, turned), read_all(words, None, turned))


def test_images_are_read_where_none_can_be_stored(
    words: str, cache: DecodedCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_all(words, None)
    (tmp_path / "file").write_text("not a folder")
    assert_equal(read_all(words, DecodedCache(tmp_path / "file")), expected)

    def refuse(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    assert_equal(read_all(words, cache), expected)
    assert_equal(read_all(words, cache), expected)
