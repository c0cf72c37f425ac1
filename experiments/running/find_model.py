"""Weights that a user names: a file, or a run of a results folder."""

from pathlib import Path

from core.runtime.artifacts import MODEL, NO_WEIGHTS
from core.runtime.errors import UserError
from results.store import Store


def find_model(name: str, results: Path) -> Path:
    """Return the file of weights that a user names. Raises UserError if there is none.

    name: a file, or the id of a run; an evaluation stands for its recognizer.
    results: the results folder with the run."""
    if Path(name).is_file():
        return Path(name)
    store = Store(results)
    folder = store.run(name).folder
    if Path(name).is_dir() and Path(name).name != name:
        raise UserError(
            f"{name}: a folder; name a file of weights, or a run by its id (the name of its folder)"
        )
    if not folder.is_dir():
        known = sorted(path.name for path in folder.parent.glob("finetune-*"))
        runs = f"runs there: {', '.join(known)}" if known else "no finetune run there yet"
        raise UserError(f"{name}: neither a file nor a run below {folder.parent} ({runs})")
    if name.startswith("evaluate-"):
        recognizer = store.run(name).record()["inputs"]["recognizer"]
        if recognizer.startswith("file:"):
            return store.weights(recognizer)
        return find_model(recognizer, results)
    if not (folder / MODEL).is_file():
        state = store.run(name).state().name
        reason = NO_WEIGHTS if state == "complete" else f"has no weights: it is {state}"
        raise UserError(f"{name} {reason}")
    return folder / MODEL
