"""Photographs of the words in a file of predictions, from the LMDB folders that were recognized."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.tables.clusters import Clusters, photo_clusters
from analysis.tables.prediction_files import Subsets
from analysis.tables.suspects import predictions_of_root
from core.data.word_images import WordImages
from core.runtime.errors import UserError


@dataclass(frozen=True)
class PhotoRoot:
    """LMDB folders of one test set that name the photographs of their words.

    names: by which a file of predictions can call the test set.
    roots: the folders.
    """

    names: Sequence[str]
    roots: Sequence[str]


def clusters_of_file(
    path: Path, subsets: Subsets, photo_roots: Sequence[PhotoRoot]
) -> dict[str, Clusters]:
    """Subset -> the photograph (n,) of each prediction. Subsets without a root are left out.

    path: the file, for errors.
    subsets: its content, with numbers of the words from 0.
    photo_roots: test sets that name photographs.

    Raises UserError if a root names no photograph, or has other words than the file.
    """
    clusters = {}
    for photo_root in photo_roots:
        images = WordImages(photo_root.roots)
        subset, predictions = predictions_of_root(path, subsets, photo_root.names, images)
        photos = [images.photo(row.index) for row in predictions]
        if not any(photos):
            raise UserError(
                f"{', '.join(photo_root.roots)}: names no photographs; "
                "`run.py data build ROOT OUT --boxes FILE` adds them"
            )
        if (numbers := photo_clusters(photos)) is not None:
            clusters[subset] = numbers
    return clusters
