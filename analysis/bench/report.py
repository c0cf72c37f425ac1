"""The benchmark's report: JSON, or a Markdown table for each measurement."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.bench.measure import Timing

SLOW_UNITS = ("starts", "epochs", "turns")  # shown as seconds per unit, not as units per second
CPU_MINUTES = "CPU-minutes"  # unit of a cost
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16")
HEADER = "| case | path | median | least to most | memory | ratios |"


@dataclass(frozen=True)
class BenchReport:
    """All timings of a command, and where they were measured."""

    machine: dict[str, Any]
    work: str  # name of the model's size
    left_out: list[str]  # sentences
    timings: list[Timing]

    def to_json(self) -> dict[str, Any]:
        """The report with the seconds of every repetition."""
        return {
            "machine": self.machine,
            "work": self.work,
            "left_out": self.left_out,
            "measured": [timing.to_json() for timing in self.timings],
        }

    def to_markdown(self) -> str:
        """A heading and a table for each measurement."""
        machine = self.machine
        accelerator = machine["accelerator"] or "no accelerator"
        instructions = " ".join(machine["instructions"]) or "unknown instructions"
        lines = [
            f"{machine['processor']}, {machine['cores']} cores, {instructions}, {accelerator}; "
            f"{machine['when']}",
            *self.left_out,
        ]
        previous = None
        for timing in self.timings:
            if timing.what != previous:
                previous = timing.what
                lines += ["", f"### {timing.what}", "", HEADER, "|" + 6 * "---|"]
            lines.append(f"| {' | '.join(cells(timing))} |")
        return "\n".join(lines)


def describe_machine(device: str) -> dict[str, Any]:
    """Hardware, versions, commit and time of a measurement."""
    import torch

    from results.provenance import commit, hardware, versions

    accelerator = None if device == "cpu" else torch.cuda.get_device_name(device)
    described = hardware(accelerator)
    del described["host"]
    return {
        "device": device,
        **described,
        "instructions": processor_instructions(),
        "threads": torch.get_num_threads(),
        **commit(),
        "versions": versions(),
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def processor_instructions() -> list[str]:
    """Those of INSTRUCTIONS that the processor lists; [] where there is no /proc/cpuinfo."""
    cpuinfo = Path("/proc/cpuinfo")
    known = cpuinfo.read_text().split() if cpuinfo.exists() else []
    return [name for name in INSTRUCTIONS if name in known]


def cells(timing: Timing) -> list[str]:
    """The cells of a timing's row in the table."""
    memory = "" if timing.memory_mb is None else f"{timing.memory_mb:,.0f} MB"
    ratios = "; ".join(ratio_text(name, value) for name, value in timing.ratios.items())
    remarks = "; ".join(filter(None, [ratios, timing.note]))
    return [timing.case, timing.path, median_text(timing), range_text(timing), memory, remarks]


def median_text(timing: Timing) -> str:
    """Units per second, or seconds where they are few."""
    if timing.unit == CPU_MINUTES:
        return f"{1 / timing.rate / 60:.2f} {CPU_MINUTES}"
    if timing.unit in SLOW_UNITS:
        return f"{1 / timing.rate:.2f} s"
    if timing.rate < 1:
        return f"{timing.count / timing.rate:.3g} s"
    return f"{timing.rate:,.3g} {timing.unit}/s"


def range_text(timing: Timing) -> str:
    """The least and the greatest value of all repetitions; "" if there is one repetition."""
    if len(timing.seconds) == 1:
        return ""
    fastest = min(timing.seconds)
    slowest = max(timing.seconds)
    if timing.unit in SLOW_UNITS:
        return f"{fastest:.2f} s to {slowest:.2f} s"
    return f"{timing.count / slowest:,.3g} to {timing.count / fastest:,.3g}"


def ratio_text(name: str, value: float) -> str:
    """A factor as `2.5 x plain`; a share as `45 % of the encoder's speed`."""
    is_factor = name.startswith(("x ", "times", "largest"))
    return f"{value:.2g} {name}" if is_factor else f"{100 * value:.0f} % {name}"
