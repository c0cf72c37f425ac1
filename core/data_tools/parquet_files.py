"""Word images in Parquet files, as the Hugging Face hub stores them.

The column of images has bytes, or structures of `bytes` and `path`. A data set is one file, or
several shards such as `train-00000-of-00002.parquet`. pyarrow is optional; the file
requirements-parquet.txt has it.
Source: huggingface.co/docs/datasets, image datasets.
"""

import glob
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from core.data_tools.annotations import IMAGE_NAMES, LABEL_NAMES, Annotation, TableCell, some_names
from core.data_tools.reading import Reading
from core.runtime.errors import UserError

SUFFIX = ".parquet"
MAGIC = b"PAR1"
SAFE_VERSION = 15  # older versions of pyarrow execute code that a file may contain (CVE-2023-47248)
GLOB = re.compile(r"[*?\[]")
# What follows the name of the split: -00000-of-00002, and a hash in older data sets.
_SHARD = re.compile(r"[-_.]?\d+([-_]of[-_]\d+)?([-_.][0-9a-f]{16})?$")


def find_shards(source: Path) -> list[Path]:
    """The Parquet files of a source: a file, a folder with shards, or a pattern with `*`.

    Hidden files are left out. [] if there are none.
    """
    if source.is_file():
        return [source] if source.suffix.lower() == SUFFIX else []
    if source.is_dir():
        found = source.rglob(f"*{SUFFIX}")
        names = (file.relative_to(source) for file in found if file.is_file())
        return sorted(source / name for name in names if not str(name).startswith("."))
    if not GLOB.search(str(source)):
        return []
    found_paths = map(Path, glob.glob(str(source), recursive=True))
    return sorted(file for file in found_paths if file.is_file() and file.suffix == SUFFIX)


def split_of(shard: Path) -> str:
    """The split that the name of a shard, or else its folder, says: `train`, for example."""
    return _SHARD.sub("", shard.stem) or shard.parent.name


def choose_shards(source: Path, shards: Sequence[Path], split: str | None) -> list[Path]:
    """The shards of one split. Raises UserError if it is not clear which one is wanted."""
    splits = sorted({split_of(shard) for shard in shards})
    if split is None and len(splits) > 1:
        names = ", ".join(splits)
        raise UserError(f"{source}: Parquet files of several splits ({names}); choose with --split")
    if split is not None and split not in splits:
        raise UserError(f"--split {split}: {source} has the splits {', '.join(splits)}")
    return [shard for shard in shards if split in (None, split_of(shard))]


def parquet_words(shards: Sequence[Path], reading: Reading) -> Iterator[Annotation]:
    """The rows of Parquet files. The images are not read yet.

    Raises UserError if pyarrow is missing, a file is damaged, or a column is not clear.
    """
    for shard in shards:
        table = _open(shard)
        image, text = _columns(shard, table.schema_arrow, reading)
        has_path = _is_structure(table.schema_arrow.field(image).type, "path")
        wanted = [*([f"{image}.path"] if has_path else []), *([text] if text else [])]
        for group in range(table.num_row_groups):
            rows = _read_group(shard, table, group, wanted)
            for number, row in enumerate(rows):
                name = (row.get(image) or {}).get("path") if has_path else None
                annotation = Annotation(
                    image=name or f"{shard.name} group {group} row {number}",
                    label=None if text is None else row[text] or "",
                    cell=TableCell(str(shard), image, group, number),
                )
                yield annotation


def has_text_column(shard: Path, reading: Reading) -> bool:
    """Whether the rows of a Parquet file have texts. Errors as in `parquet_words`."""
    return _columns(shard, _open(shard).schema_arrow, reading)[1] is not None


def _open(shard: Path) -> Any:
    """pyarrow's ParquetFile."""
    if find_spec("pyarrow") is None:
        raise UserError(
            f"{shard}: Parquet files need pyarrow; run `pip install -r requirements-parquet.txt`"
        )
    import pyarrow
    from pyarrow.parquet import ParquetFile

    if int(pyarrow.__version__.split(".")[0]) < SAFE_VERSION:
        raise UserError(
            f"{shard}: pyarrow {pyarrow.__version__} is not safe for files of others; "
            "run `pip install -r requirements-parquet.txt`"
        )
    try:
        return ParquetFile(shard)
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise _damaged(shard, error) from error


def _damaged(shard: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:120]
    return UserError(f"{shard}: not a complete Parquet file ({reason}); download it again")


def _read_group(shard: Path, table: Any, group: int, columns: list[str]) -> list[dict[str, Any]]:
    """The rows of a row group, as dictionaries."""
    try:
        if not columns:
            return [{} for _ in range(table.metadata.row_group(group).num_rows)]
        rows: list[dict[str, Any]] = table.read_row_group(group, columns=columns).to_pylist()
    except (OSError, ValueError) as error:
        raise _damaged(shard, error) from error
    return rows


# columns


def _is_structure(kind: Any, *names: str) -> bool:
    """Whether a column has structures with these fields. kind: pyarrow's type."""
    from pyarrow import types

    if not types.is_struct(kind):
        return False
    return all(kind.get_field_index(name) >= 0 for name in names)


def _has_images(kind: Any) -> bool:
    from pyarrow import types

    if _is_structure(kind, "bytes"):
        return _has_images(kind.field("bytes").type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _has_texts(kind: Any) -> bool:
    from pyarrow import types

    is_coded = types.is_dictionary(kind)
    value = kind.value_type if is_coded else kind
    return bool(types.is_string(value) or types.is_large_string(value))


def _columns(shard: Path, schema: Any, reading: Reading) -> tuple[str, str | None]:
    """The names of the columns of images and of texts; None if there is no column of texts."""
    kinds = {field.name: field.type for field in schema}
    images = [name for name, kind in kinds.items() if _has_images(kind)]
    texts = [name for name, kind in kinds.items() if _has_texts(kind)]
    image = _column(shard, kinds, images, IMAGE_NAMES, "image", reading.image_column)
    if not texts and reading.text_column is None:
        return image, None
    return image, _column(shard, kinds, texts, LABEL_NAMES, "text", reading.text_column)


def _column(
    shard: Path,
    kinds: dict[str, Any],
    suitable: list[str],
    usual: Sequence[str],
    what: str,
    wanted: str | None,
) -> str:
    """The name of a column.

    Args:
        shard: The file, for errors.
        kinds: All columns and their types.
        suitable: The columns of a suitable type.
        usual: Usual names, the preferred one first.
        what: `image` or `text`, for errors.
        wanted: The name that the user gave.
    """
    all_columns = ", ".join(f"{name} ({kind})"[:60] for name, kind in kinds.items())
    if wanted is not None:
        if wanted not in suitable:
            problem = "no such column" if wanted not in kinds else f"not a column of {what}s"
            raise UserError(f"--{what}-column {wanted}: {problem} in {shard}; it has {all_columns}")
        return wanted
    named = next((name for name in usual if name in suitable), None)
    if named is not None:
        return named
    if len(suitable) == 1:
        return suitable[0]
    problem = f"several columns of {what}s" if suitable else f"no column of {what}s"
    candidates = f" ({some_names(suitable)})" if suitable else ""
    raise UserError(
        f"{shard}: {problem}{candidates}; name one with --{what}-column; it has {all_columns}"
    )


# images


@lru_cache(maxsize=1)
def _image_column(file: str, column: str, group: int) -> Any:
    """The images of a row group, which a process reads once. pyarrow's chunked array."""
    return _open(Path(file)).read_row_group(group, columns=[column]).column(column)


def read_cell(cell: TableCell) -> bytes | str | None:
    """The image file in a Parquet file, or the path of one, or None if the cell is empty.

    Raises UserError or OSError if the cell cannot be read.
    """
    try:
        value = _image_column(cell.file, cell.column, cell.group)[cell.row].as_py()
    except (OSError, ValueError, IndexError) as error:
        raise _damaged(Path(cell.file), error) from error
    if isinstance(value, dict):
        value = value["bytes"] or value.get("path")
    return value if isinstance(value, bytes | str) and value else None
