"""Names what a file is that should hold weights and does not."""

import zipfile
from pathlib import Path

from core.runtime.foreign_files import foreign_content

LENGTH = 512  # bytes of a file's start that are enough to name it
AGAIN = "copy or download it again"
WEIGHTS = "name a file of weights (.safetensors, or .pth by torch.save)"
SAFETENSORS_SUFFIX = ".safetensors"
LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9"  # of torch.save before PyTorch 1.6
TAR_MARK = slice(257, 262)  # where a tar archive has the letters "ustar"
SHOWN_CHARACTERS = 40  # of a text file

# (first bytes, what the file is and what to do)
STARTS = (
    (b"\x93NUMPY", f"a NumPy array (.npy), not weights; {WEIGHTS}"),
    (b"\x89HDF", f"an HDF5 file, such as Keras writes, not weights of PyTorch; {WEIGHTS}"),
    (b"GGUF", f"a GGUF file, not weights of PyTorch; {WEIGHTS}"),
    (b"\x89PNG", f"an image (PNG), not weights; {WEIGHTS}"),
    (b"\xff\xd8\xff", f"an image (JPEG), not weights; {WEIGHTS}"),
    (b"%PDF", f"a PDF document, not weights; {WEIGHTS}"),
    (b"7z\xbc\xaf", "a 7z archive; extract it and name the checkpoint in it"),
    (b"Rar!", "a RAR archive; extract it and name the checkpoint in it"),
    (b"\xfd7zXZ", "compressed with xz; extract it"),
    (b"BZh", "compressed with bzip2; extract it"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; extract it"),
)


def foreign_weights(path: Path) -> str:
    """What a file is that could not be read as weights, and what to do; "" if nothing is known."""
    if path.is_dir():
        return f"a folder, not a checkpoint; {WEIGHTS}"
    with path.open("rb") as file:
        start = file.read(LENGTH)
    if not start:
        return f"empty; {AGAIN}"
    if not start.strip(b"\0"):
        return f"begins with {len(start)} zero bytes, as after an interrupted download; {AGAIN}"
    if start.startswith(b"PK"):  # also how PyTorch stores checkpoints
        return _zip_content(path)
    known = next((what for first, what in STARTS if start.startswith(first)), "")
    return known or foreign_content(start) or _weights_content(path, start) or _text_content(start)


def _zip_content(path: Path) -> str:
    """What a ZIP archive holds; "" for a complete checkpoint of PyTorch with the right suffix."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if _has_file(names, "constants.pkl"):
                return "a TorchScript program, not weights; save its state_dict() by torch.save"
            if _has_file(names, "data.pkl"):
                if path.suffix == SAFETENSORS_SUFFIX:
                    return "a PyTorch checkpoint under another name; rename it to end in .pth"
                damaged = archive.testzip()
                return f"damaged (in its part {damaged}); {AGAIN}" if damaged else ""
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError):
        return f"a checkpoint or ZIP archive that is cut short or damaged; {AGAIN}"
    if names and all(name.endswith(".npy") for name in names):
        return f"a NumPy archive (.npz), not weights of PyTorch; {WEIGHTS}"
    first = f" (first: {names[0]})" if names else ""
    return (
        f"a ZIP archive of {len(names)} files{first}, not a checkpoint; "
        "extract it and name the checkpoint in it"
    )


def _has_file(names: list[str], file: str) -> bool:
    """Whether an archive has this file at its top or one folder below."""
    return any(name.split("/")[-1] == file and name.count("/") <= 1 for name in names)


def _weights_content(path: Path, start: bytes) -> str:
    """What a file is that begins as weights or an archive of weights; "" if it does not."""
    is_safetensors = path.suffix == SAFETENSORS_SUFFIX
    if start[TAR_MARK] == b"ustar":
        return "a tar archive; extract it and name the checkpoint in it"
    if start[8:10] == b'{"':  # after the length of the header in 8 bytes
        if is_safetensors:
            return f"a safetensors file that is cut short or damaged; {AGAIN}"
        return "a safetensors file under another name; rename it to end in .safetensors"
    if start.startswith(LEGACY_START):
        if is_safetensors:
            return "a PyTorch checkpoint under another name; rename it to end in .pth"
        return f"a PyTorch checkpoint of the old format that is cut short or damaged; {AGAIN}"
    if start[0] == 0x80 and len(start) > 1 and start[1] <= 5:
        return (
            "a Python pickle that torch.save did not write, or a damaged one; it cannot be read "
            "without executing code: save its state dict by torch.save"
        )
    return ""


def _text_content(start: bytes) -> str:
    """What a text file is; "" if the bytes are no text."""
    if start.lstrip().startswith(b"<"):
        return "a web page or XML, not weights; download the file again"
    encoding = "utf-16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    text = start.decode(encoding, "ignore")  # the last character may be cut
    printable = text.replace("\n", " ").replace("\r", " ").replace("\t", " ")
    if not text or not printable.isprintable() or len(text.encode()) < len(start) // 3:
        return ""
    shown = " ".join(printable.split())[:SHOWN_CHARACTERS]
    return f'a text file (it begins with "{shown}"), not weights; {WEIGHTS}'
