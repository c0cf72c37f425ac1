"""The report of `run.py data check` as text for a terminal."""

from collections.abc import Iterator

from core.data_tools.check_report import LabelReport, RootReport

HISTOGRAM_ROWS = 16  # lines of a histogram
BAR_WIDTH = 40  # columns of the largest count
SHOWN_CHARACTERS = 20  # outside of the charset


def check_text(report: RootReport, problems: list[str], known_name: str | None) -> str:
    """A root's report.

    Args:
        report: What `check_root` returned.
        problems: Problems to print, one sentence each.
        known_name: The data set whose known size the root has, if any.
    """
    known = f", as {known_name} should have" if known_name else ""
    lines = [f"{report.root}: {report.images:,} images{known}; fingerprint {report.fingerprint}"]
    lines += [f"  problem  {problem}" for problem in problems]
    lines += [f"  note     {note}" for note in report.notes]
    for name, sizes in report.sizes.items():
        title = "width / height" if name == "ratio" else f"{name} in pixels"
        lines += histogram_lines(f"{title}, median {sizes.median:g}", sizes.histogram)
    lines += _label_lines(report.labels, report.labeled)
    return "\n".join(lines)


def _label_lines(labels: LabelReport, labeled: bool) -> Iterator[str]:
    if labels.lengths:
        yield from histogram_lines("label length", labels.lengths)
    if outside := labels.characters_outside:
        shown = [f"{mark!r} x {count}" for mark, count in list(outside.items())[:SHOWN_CHARACTERS]]
        if len(outside) > SHOWN_CHARACTERS:
            shown.append("...")
        yield f"  characters outside the charset, with their labels: {', '.join(shown)}"
    if labeled:
        for name, effect in labels.protocols.items():
            yield (
                f"  protocol {name:21} changes {effect.altered:,} labels, "
                f"{effect.empty:,} of them to empty ones"
            )


def histogram_lines(title: str, histogram: dict[str, int]) -> list[str]:
    """A histogram with one line for each bin. The last line adds up the bins that do not fit."""
    bins = list(histogram.items())
    if len(bins) > HISTOGRAM_ROWS:
        rest = bins[HISTOGRAM_ROWS - 1 :]
        total = sum(count for _, count in rest)
        bins = [*bins[: HISTOGRAM_ROWS - 1], (f"{rest[0][0]} and more", total)]
    largest = max(count for _, count in bins)
    width = max(len(value) for value, _ in bins)
    bars = [
        f"    {value:>{width}} {'#' * -(-BAR_WIDTH * count // largest)} {count:,}"
        for value, count in bins
    ]
    return [f"  {title}", *bars]
