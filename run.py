"""Re-run, check and extend LMIM. The commands, with examples:

run (may be left out)  python run.py experiments/ablation_alignment.yaml
                       python run.py experiments/*.yaml --scale smoke
                       python run.py experiments/ablation_decoder.yaml --launcher slurm
                       python run.py sweeps/mask_ratio.yaml --workers 2
plan                   what would run, and its cost
status, watch          the state of every run: once, or live
cancel, logs           end the jobs of a cluster; print what a run or job printed
compare                tables: reported, measured, intervals, verdicts
claims                 check the suite's claims; reproduce one:  python run.py claims --run C3
false-differences      how often seeds of one recipe are called different
early-start            after how many steps recognizers start to read
report                 all notebooks on these results, as one HTML page
grid                   pictures of correct and wrong predictions
sweep-report           what a sweep found
predict                recognize words:  python run.py predict photo.jpg --model finetune-1a2b
score                  score stored predictions:  python run.py score predictions.csv
import, export         convert checkpoints of the released code to ours, and back
card                   a model card:  python run.py card finetune-1a2b --out card.md
show                   a stored run as an experiment file:  python run.py show finetune-1a2b
bundle, unbundle       the runs of an experiment as one file, with hashes, and back
peer                   check the scorer with an independent recognizer, no baseline
data                   build, check and compare data sets:  python run.py data check svt
doctor                 what this machine has and lacks
bench                  how fast this machine computes

python run.py COMMAND --help   what a command takes
"""

import argparse
import errno
import sys

from analysis.bench.commands import add_bench
from analysis.cli import add_analysis_commands
from analysis.commands.card_commands import add_card_commands
from analysis.commands.claims_command import add_claims_command
from analysis.commands.sharing_commands import add_sharing_commands
from analysis.commands.suspects_command import add_suspects_command
from core.runtime.errors import UserError
from core.runtime.files import USER_FIXABLE_ERRORS
from experiments.cli.data import add_data_commands
from experiments.cli.doctor import add_doctor_command
from experiments.cli.jobs import add_job_commands
from experiments.cli.models import add_model_commands
from experiments.cli.options import CommandParser
from experiments.cli.output import discard_output, prepare_streams
from experiments.cli.peer import add_peer_command

COMMANDS = (
    *("run", "plan", "status", "watch", "compare", "report", "logs", "cancel", "sweep-report"),
    *("claims", "false-differences", "early-start", "data", "score", "import", "export", "card"),
    *("predict", "peer", "grid", "doctor", "bench", "show", "bundle", "unbundle"),
)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands. Building it takes a tenth of a second."""
    parser = CommandParser(
        prog="run.py",
        usage="run.py COMMAND ...",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(
        required=True, metavar="COMMAND", prog="run.py", help=argparse.SUPPRESS
    )
    add_analysis_commands(commands)
    add_claims_command(commands)
    add_job_commands(commands)
    add_suspects_command(add_data_commands(commands))
    add_model_commands(commands)
    add_card_commands(commands)
    add_sharing_commands(commands)
    add_peer_command(commands)
    add_doctor_command(commands)
    add_bench(commands)
    return parser


def main(argv: list[str]) -> int:
    """Run a command; returns its exit code: 2 for a mistake of the user, 130 if interrupted."""
    prepare_streams()
    if argv and argv[0] not in (*COMMANDS, "-h", "--help"):
        argv = ["run", *argv]
    arguments = argparse.Namespace()
    try:
        arguments = make_parser().parse_args(argv)
        code: int = arguments.command(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of a pipe has ended, as `head` does
        discard_output()
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in USER_FIXABLE_ERRORS:
            raise
        results = getattr(arguments, "results", None)
        print(f"error: {describe_os_error(error, results)}", file=sys.stderr)
        if error.filename is None:
            discard_output()
        return 2
    except KeyboardInterrupt:
        return 130


def describe_os_error(error: OSError, results: object) -> str:
    """One sentence: the path, what is wrong, and what to do. results: the results folder."""
    path = error.filename or f"standard output or {results or 'a file'}"
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"{path}: {error.strerror}; {'free space there' if is_full else 'choose another path'}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
