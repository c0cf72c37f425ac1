"""Every option of the suite, given to every command, has an effect there or is refused.

The options and commands are those of the parsers: a new option needs a value in VALUES.
"""

import shutil
from pathlib import Path

import pytest
from command_probe import Probe, Trace, leaf_parsers, options_of

import run
from core.runtime.errors import UserError

PARSERS = dict(leaf_parsers(run.make_parser()))
FILES = "EXPERIMENT"
SWEEP = "SWEEP"
PLANNED = "--results R --scale smoke"

# command -> the commands that an option is added to; an option must have an effect in one of them
CONTEXTS: dict[str, list[str]] = {
    "run": [
        f"run {FILES} {PLANNED}",
        f"run {FILES} {PLANNED} --launcher slurm",
        f"run {SWEEP} {PLANNED}",
        f"run {SWEEP} {PLANNED} --launcher slurm",
    ],
    **{
        name: [f"{name} {FILES} {PLANNED}", f"{name} {SWEEP} {PLANNED}"]
        for name in ("plan", "status", "watch", "cancel")
    },
    "compare": [f"compare {FILES} {PLANNED}"],
    "claims": ["claims --file CLAIMS", "claims --file CLAIMS --run C1 --results R"],
    "false-differences": [f"false-differences {FILES} {PLANNED}"],
    "early-start": [f"early-start {FILES} {PLANNED}"],
    "sweep-report": [f"sweep-report {SWEEP} {PLANNED}"],
    "report": ["report --results R", "report --results R --for mlrc"],
    "score": [
        "score PREDICTIONS",
        "score PREDICTIONS --labels strict",
        "score COMMAS",
        "score UNLABELED --truth LABELS",
    ],
    "grid": ["grid evaluate-1 --results R"],
    "logs": ["logs pretrain-abc --results R"],
    "import": ["import a.pth b.safetensors"],
    "export": ["export a.safetensors b.pth", "export finetune-1 --hub folder"],
    "card": ["card finetune-1 --results R"],
    "show": ["show finetune-1 --results R"],
    "bundle": [f"bundle {FILES} runs.zip {PLANNED}"],
    "unbundle": ["unbundle runs.zip --results R"],
    "predict": ["predict PHOTO --model a"],
    "peer": ["peer ppocrv6 LMDB --out peer"],
    "doctor": ["doctor --results R"],
    "bench": ["bench limits"],
    "data build": [
        "data build LABELS out",
        "data build TABLE out",
        "data build PHOTOS out",
        "data build LMDB out --boxes BOXES",
    ],
    "data check": ["data check LMDB"],
    "data overlap": ["data overlap LMDB LMDB --out filter.tsv"],
    "data charset": ["data charset LMDB"],
    "data card": ["data card LMDB"],
    "data suspects": [
        "data suspects LMDB --predictions READ",
        "data suspects LMDB --predictions READ --out pictures",
    ],
}
VALUES = {
    "--boxes": "OTHER_BOXES",
    "--charset": "file:CHARACTERS",
    "--checkpoint-minutes": "7",
    "--cluster": "CLUSTER",
    "--compile": "",
    "--confidence": "0.99",
    "--data": "LMDB",
    "--device": "cuda",
    "--dry-run": "",
    "--file": "OTHER_CLAIMS",
    "--for": "mlrc",
    "--format": "csv",
    "--gpus": "0,1",
    "--hub": "hub",
    "--image-column": "file",
    "--images": "5",
    "--jobs": "3",
    "--json": "",
    "--labels": "both",
    "--launcher": "slurm",
    "--license": "mit",
    "--lines": "1",
    "--margin": "0.1",
    "--max-length": "5",
    "--micro-batch": "2",
    "--min-count": "2",
    "--model": "b",
    "--no-wait": "",
    "--num-workers": "3",
    "--once": "",
    "--out": "elsewhere",
    "--overlap": "filter.tsv",
    "--pairs": "5",
    "--photos": "PHOTO_LMDB",
    "--power": "2",
    "--precision": "bf16",
    "--predictions": "OTHER_READ",
    "--processes": "3",
    "--protocol": "chinese",
    "--quick": "",
    "--results": "other",
    "--row": "other",
    "--run": "C2",
    "--scale": "mini",
    "--seeds": "5",
    "--seeds-per-row": "2",
    "--set": "pretrain.target=pixel",
    "--split": "test",
    "--state": "model_ema",
    "--storage": "sqlite:///trials.db",
    "--suspects": "suspects.json",
    "--text-column": "words",
    "--threshold": "3",
    "--truth": "OTHER_LABELS",
    "--workers": "3",
    "--write-experiment": "best.yaml",
}
OPTIONS = sorted({name for parser in PARSERS.values() for name in options_of(parser)})
ACCEPTED = [(command, option) for command in PARSERS for option in options_of(PARSERS[command])]


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    return Probe(tmp_path_factory.mktemp("probe"))


@pytest.fixture(scope="module")
def baselines() -> dict[str, tuple[int, Trace]]:
    """Command line -> what it does without another option."""
    return {}


def words_of(line: str, probe: Probe) -> list[str]:
    """A command line with the paths of the probe's inputs."""
    names = {
        "EXPERIMENT": probe.experiment,
        "SWEEP": probe.sweep,
        "R": probe.folder / "results",
        "PREDICTIONS": probe.folder / "predictions.txt",
        "READ": probe.folder / "read.csv",
        "OTHER_READ": probe.folder / "other_read.csv",
        "PHOTO": probe.folder / "photo.jpg",
        "LABELS": probe.folder / "labels.tsv",
        "COMMAS": probe.folder / "commas.txt",
        "UNLABELED": probe.folder / "unlabeled.txt",
        "OTHER_LABELS": probe.folder / "other_labels.tsv",
        "TABLE": probe.folder / "table.tsv",
        "PHOTOS": probe.folder / "photos.json",
        "LMDB": probe.folder / "lmdb",
        "PHOTO_LMDB": probe.folder / "photo_lmdb",
        "CLUSTER": probe.folder / "cluster.yaml",
        "CLAIMS": probe.folder / "claims.yaml",
        "OTHER_CLAIMS": probe.folder / "other_claims.yaml",
        "BOXES": probe.folder / "boxes.jsonl",
        "OTHER_BOXES": probe.folder / "other_boxes.jsonl",
        "file:CHARACTERS": f"file:{probe.folder / 'characters.txt'}",
    }
    return [str(names.get(word, word)) for word in line.split()]


def test_every_option_has_a_value_and_every_command_a_context() -> None:
    assert set(OPTIONS) == VALUES.keys()
    assert PARSERS.keys() == CONTEXTS.keys()


@pytest.mark.parametrize("command", PARSERS)
def test_options_of_other_commands_are_refused(command: str) -> None:
    words = CONTEXTS[command][0].removeprefix(command).split()
    for option in set(OPTIONS) - options_of(PARSERS[command]).keys():
        with pytest.raises(UserError, match=f"unrecognized arguments: {option}"):
            PARSERS[command].parse_args([*words, option, *VALUES[option].split()])


@pytest.mark.parametrize(("command", "option"), ACCEPTED)
def test_an_option_has_an_effect_or_is_refused(
    command: str,
    option: str,
    probe: Probe,
    baselines: dict[str, tuple[int, Trace]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In every context of a command, and an effect in one of them."""
    monkeypatch.chdir(probe.folder)
    probe.install(monkeypatch)
    effects = 0
    for line in CONTEXTS[command]:
        if option in ("--for", "--launcher") and option in line:
            continue
        if line not in baselines:
            baselines[line] = probe(words_of(line, probe), capsys)
            assert baselines[line][0] in (0, 1), f"{line}: {baselines[line]}"
        given = f"{line} {option} {VALUES[option]}"
        _remove(probe.folder / "elsewhere")  # of an earlier --out
        code, trace = probe(words_of(given, probe), capsys)
        assert code == 2 or (code, trace) != baselines[line], f"{given}: no effect"
        effects += code != 2
    assert effects


def _remove(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
