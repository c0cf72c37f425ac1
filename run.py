"""Re-run, check and extend LMIM.

python run.py experiments/ablation_alignment.yaml            run an experiment, or go on with it, and print its table
python run.py plan experiments/ablation_alignment.yaml       what would run, at what cost; nothing is run
python run.py status experiments/ablation_alignment.yaml     the state of every run
python run.py watch experiments/ablation_alignment.yaml      the same, live: progress, curves of the loss, time left
python run.py experiments/ablation_alignment.yaml --launcher slurm   the same on a cluster (experiments/settings/cluster.yaml)
python run.py sweeps/mask_ratio.yaml --workers 2             search settings (sweep-report tells what was found)
python run.py compare experiments/ablation_*.yaml            reported beside measured: intervals, differences, verdicts
python run.py report                                         all notebooks on these results, as one HTML page
python run.py data check iiit5k svt                          counts, broken images, labels, duplicates of data sets
python run.py score predictions.csv --protocol waics         score stored predictions, without a model
python run.py bench                                          how fast it is here, beside the plain way and the hardware's limits
python run.py COMMAND --help                                 what a command takes
"""

import argparse
import os
import sys

from analysis.bench.commands import add_bench
from analysis.cli import add_analysis_commands
from core.runtime.errors import UserError
from core.runtime.files import USER_FIXABLE_ERRORS
from experiments.cli.data import add_data_commands
from experiments.cli.jobs import add_job_commands
from experiments.cli.models import add_model_commands

COMMANDS = (
    *("run", "plan", "status", "watch", "compare", "report", "logs", "cancel", "sweep-report"),
    *("data", "score", "import", "export", "predict", "grid", "bench"),
)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_analysis_commands(commands)
    add_job_commands(commands)
    add_data_commands(commands)
    add_model_commands(commands)
    add_bench(commands)
    return parser


def main(argv: list[str]) -> int:
    if argv and argv[0] not in COMMANDS and argv[0] not in ("-h", "--help"):
        argv = ["run", *argv]
    arguments = make_parser().parse_args(argv)
    try:
        code = arguments.command(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of a pipe has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in USER_FIXABLE_ERRORS:
            raise
        place = error.filename or getattr(arguments, "results", "output")
        print(
            f"error: {place}: {error.strerror}; make room there, or name another place",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
