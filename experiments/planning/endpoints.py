"""Names of endpoints: what a table can compare rows by."""

from typing import Literal, get_args

Measure = Literal["words", "characters", "cer", "nll"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
FINE_TUNED = "fine-tuned"  # the source of the recognizer's endpoints; other sources are probes
DEFAULT_ENDPOINT = f"{FINE_TUNED} words"


def split_endpoint(name: str) -> tuple[str, Measure]:
    """(source, measure) of an endpoint's name, such as `fine-tuned words`.

    The source is FINE_TUNED or the name of a probe. Raises ValueError for another form.
    """
    source, _, measure = name.rpartition(" ")
    for known in MEASURES:
        if known == measure and source.strip() == source != "":
            return source, known
    raise ValueError(
        f"{name!r} is not an endpoint; write SOURCE MEASURE: {FINE_TUNED} or the name of a probe, "
        f"then one of {', '.join(MEASURES)}"
    )
