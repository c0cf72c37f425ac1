"""The command `doctor`: what this machine has and lacks."""

import argparse
import textwrap
from dataclasses import asdict
from shutil import get_terminal_size
from typing import Any

from experiments.cli.options import add_command, add_json_option, add_results_option
from experiments.cli.output import print_json

DOCTOR = """Say what this machine has and lacks, and what that means. It changes nothing.

Levels: ok; missing; problem (it is here, but does not work, or not well).
The exit code is 1 if something is missing that every experiment needs, and else 0."""
INDENT = " " * 9
MAX_WIDTH = 100


def add_doctor_command(commands: Any) -> None:
    """Add the parser of the command to argparse's subparsers."""
    parser = add_command(commands, "doctor", doctor_command, DOCTOR)
    add_results_option(parser, "folder whose disk is checked (default: results)")
    add_json_option(parser, "print the findings as JSON")


def doctor_command(arguments: argparse.Namespace) -> int:
    """Run `doctor`; returns the exit code."""
    from experiments.running.findings import ask, can_run
    from experiments.running.machine_checks import machine_checks
    from experiments.running.torch_checks import TorchChecks

    checks = machine_checks(arguments.results) | TorchChecks().checks()
    findings = []
    for subject, check in checks.items():
        for finding in ask(subject, check):
            findings.append(finding)
            if not arguments.json:
                text = f"{finding.subject}: {finding.found}. {finding.meaning}"
                print(_wrapped(f"{finding.level:8} {text}"), flush=True)
    runs = can_run(findings)
    if arguments.json:
        print_json({"can_run": runs, "findings": [asdict(finding) for finding in findings]})
    elif runs:
        print("Nothing is missing that every experiment needs.")
    else:
        subjects = {finding.subject: None for finding in findings if finding.prevents_runs}
        print(f"No experiment runs here yet, because of: {', '.join(subjects)}.")
    return 0 if runs else 1


def _wrapped(text: str) -> str:
    width = min(MAX_WIDTH, get_terminal_size((MAX_WIDTH, 24)).columns)
    return textwrap.fill(
        text, width, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False
    )
