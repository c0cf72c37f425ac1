"""Makes the data of a run that do not exist yet: renders words, or adds boxes to words."""

import shutil
import time
from pathlib import Path

from core.data_tools.add_boxes import add_boxes
from core.runtime.files import try_lock
from core.runtime.processes import cores
from core.synthetic.config import LANGUAGE_SPLITS, Synthetic
from core.synthetic.dataset import write_splits
from core.training.run_context import Interrupted, RunContext, RunProgress
from experiments.planning.data_roots import Root


def ensure_data(root: Root, context: RunContext) -> None:
    """Make the folder of a root unless it exists or cannot be made.

    One process makes it; others wait. Raises Interrupted if asked to stop, and UserError if boxes
    do not fit their words."""
    path = Path(root.path)
    while root.is_absent:
        with try_lock(path.parent / ".lock") as free:
            if free and root.is_absent:  # another process may have made it before this one locked
                _make(root, path, context)
        if context.should_stop():
            raise Interrupted("stopped while data were made; complete splits are kept")
        if root.is_absent:
            time.sleep(0.2)


def _make(root: Root, path: Path, context: RunContext) -> None:
    for leftover in path.parent.glob(".*.*"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    if root.synthetic is not None:
        _render(root.synthetic, path, context)
    elif root.made_from is not None:
        source = root.made_from
        add_boxes(source.words, Path(source.file), source.split, path)


def _render(config: Synthetic, path: Path, context: RunContext) -> None:
    """Render all splits that belong to one. config: what to render. path: of the split."""
    started = time.monotonic()
    for_language = path.name in LANGUAGE_SPLITS
    rendered = write_splits(config, path.parent, cores(), context.should_stop, for_language)
    for done, total in rendered:
        rate = done / (time.monotonic() - started)
        seconds_left = (total - done) / rate
        context.on_progress(
            RunProgress(done, total, "images", rate, seconds_left, "rendering words")
        )
