"""The commands `show`, `bundle` and `unbundle`, which hand runs to others.

Heavy imports are inside the functions, so that `--help` is quick.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.runtime.errors import UserError
from experiments.cli import argument_types
from experiments.cli.options import add_command, add_json_option, add_results_option
from experiments.cli.output import print_json

if TYPE_CHECKING:
    from experiments.planning.plan import Plan
    from experiments.planning.stored_experiment import StoredExperiment
    from results.store import Store

SHOW = """Print the settings of a stored run as an experiment file, from its record.

Planned, the file gives a run with the same id: it names a scale and every value that differs. Where
it cannot, a sentence on standard error says why, and the exit code is 1. Stages that follow the run
in every row (fine-tuning, evaluation) are those of the scale."""
BUNDLE = """Pack the complete runs of an experiment as one file, with a hash of everything in it.

Records, logs, predictions and weights (safetensors) are packed; checkpoints and images are not."""
UNBUNDLE = """Add the runs of a bundle to a results folder. Nothing in it is executed.

Every path, size and hash is checked before anything is written. A run that is there with other
content is refused."""


def add_sharing_commands(commands: Any) -> None:
    """Add the parsers of these commands to argparse's subparsers."""
    _add_show(commands)
    _add_bundle(commands)
    _add_unbundle(commands)


# show


def _add_show(commands: Any) -> None:
    parser = add_command(commands, "show", show_command, SHOW)
    parser.add_argument("run", type=argument_types.not_empty, metavar="ID", help="a run's id")
    add_results_option(parser)
    add_json_option(parser)


def show_command(arguments: argparse.Namespace) -> int:
    """Run `show`; returns the exit code: 1 if the file does not give the same run here."""
    from experiments.planning.stored_experiment import stored_experiment
    from results.store import Store

    found = stored_experiment(Store(arguments.results), arguments.run)
    if arguments.json:
        print_json(
            {
                "id": found.id,
                "scale": found.scale,
                "same_id": not found.difference,
                "difference": found.difference,
                "experiment": found.tree,
            }
        )
    else:
        print(_experiment_text(found), end="")
    if found.difference:
        print(f"not the same id here: {found.difference}", file=sys.stderr)
    return 1 if found.difference else 0


def _experiment_text(found: "StoredExperiment") -> str:
    """The experiment file."""
    from core.runtime.yaml import dump_yaml

    return (
        f"# {found.id}: scale {found.scale}, and {found.overrides} values on top of it.\n"
        "# Settings of other stages than those that this run needs are the scale's.\n"
        f"{dump_yaml(found.tree)}"
    )


# bundle


def _add_bundle(commands: Any) -> None:
    parser = add_command(commands, "bundle", bundle_command, BUNDLE)
    parser.add_argument("file", type=argument_types.path, metavar="FILE", help="an experiment file")
    parser.add_argument("out", type=argument_types.output_file, metavar="OUT.zip")
    parser.add_argument(
        "--scale", type=argument_types.not_empty, metavar="NAME", help="as given to run"
    )
    parser.add_argument(
        "--seeds", type=argument_types.seeds, metavar="0,1,2", help="as given to run"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as given to run"
    )
    add_results_option(parser)
    add_json_option(parser)


def bundle_command(arguments: argparse.Namespace) -> int:
    """Run `bundle`; returns the exit code."""
    from results.bundle import complete_runs, write_bundle
    from results.store import Store

    out: Path = arguments.out
    if out.suffix != ".zip":
        raise UserError(f"{out}: the name of a bundle must end in .zip")
    store = Store(arguments.results)
    plan = _plan_with_recorded_seeds(arguments, store)
    complete = complete_runs(store, plan.runs)
    if not complete:
        raise UserError(
            f"{arguments.file}: none of its {len(plan.runs)} runs at scale {plan.scale} is "
            f"complete below {store.root}; run it first, or name its --scale and --results"
        )
    seeds = sorted({cell.seed for cell in plan.cells if cell.evaluate in complete})
    manifest, size = write_bundle(
        store, complete, out, experiment=arguments.file.stem, scale=plan.scale, seeds=seeds
    )
    left_out = len(plan.runs) - len(complete)
    if arguments.json:
        print_json(
            {
                "out": str(out),
                "runs": manifest.runs,
                "files": len(manifest.files),
                "bytes": size,
                "not_complete": left_out,
            }
        )
        return 0
    incomplete = f"; {left_out} runs are not complete and left out" if left_out else ""
    print(f"{out}: {len(complete)} runs, {len(manifest.files)} files, {size:,} bytes{incomplete}")
    return 0


def _plan_with_recorded_seeds(arguments: argparse.Namespace, store: "Store") -> "Plan":
    """The plan of the file, with the seeds of its stored table if the command names none."""
    from analysis.tables.planned import recorded_seeds
    from experiments.planning.changes import parse_overrides
    from experiments.planning.device import automatic_precision
    from experiments.planning.planner import SeedChoice, make_plan

    def plan_of(seeds: SeedChoice) -> "Plan":
        return make_plan(
            [arguments.file],
            arguments.scale,
            store,
            precision=automatic_precision("auto", "local"),
            overrides=parse_overrides(arguments.set),
            seeds=seeds,
        )

    plan = plan_of(arguments.seeds)
    if arguments.seeds is None and (recorded := recorded_seeds(plan, store)):
        return plan_of(recorded)
    return plan


# unbundle


def _add_unbundle(commands: Any) -> None:
    parser = add_command(commands, "unbundle", unbundle_command, UNBUNDLE)
    parser.add_argument(
        "bundle", type=argument_types.path, metavar="BUNDLE.zip", help="written by bundle"
    )
    add_results_option(parser)
    add_json_option(parser)


def unbundle_command(arguments: argparse.Namespace) -> int:
    """Run `unbundle`; returns the exit code."""
    from results.bundle import read_bundle
    from results.store import Store

    store = Store(arguments.results)
    manifest, added = read_bundle(store, arguments.bundle)
    if arguments.json:
        print_json(
            {
                "experiment": manifest.experiment,
                "scale": manifest.scale,
                "seeds": list(manifest.seeds),
                "runs": manifest.runs,
                "added": added,
            }
        )
        return 0
    here = len(manifest.runs) - len(added)
    known = f"; {here} were here already" if here else ""
    print(f"{store.root}: {len(added)} of {len(manifest.runs)} runs added{known}")
    seeds = f" --seeds {','.join(map(str, manifest.seeds))}" if manifest.seeds else ""
    print(
        f"runs of {manifest.experiment}; their table:  python run.py compare EXPERIMENT.yaml "
        f"--scale {manifest.scale}{seeds} --results {store.root}"
    )
    return 0
