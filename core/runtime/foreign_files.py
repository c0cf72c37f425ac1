"""Names what a file really is when a download or a copy went wrong."""

STARTS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the data; fetch it with `git lfs pull`"),
    (b"<!doctype html", "a web page, not the data; download the file again"),
    (b"<html", "a web page, not the data; download the file again"),
    (b"PK\x03\x04", "a ZIP archive or an Excel file; extract it, or save it as CSV"),
    (b"\x1f\x8b", "compressed with gzip; extract it"),
)
LENGTH = 200  # bytes of a file's start that are enough for `foreign_content`


def foreign_content(start: bytes) -> str:
    """What a file is and what to do, from its first bytes; "" if nothing is known."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((what for known, what in STARTS if text.startswith(known.lower())), "")
