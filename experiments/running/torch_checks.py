"""Checks of `run.py doctor` that PyTorch answers: its build, processor, threads, GPUs."""

import os
from collections.abc import Iterator
from functools import cached_property

from experiments.planning.bf16_speed import WARNING_LIMIT
from experiments.planning.device import DRIVERS
from experiments.running.findings import Check, Finding
from experiments.running.torch_facts import NoTorch, TorchFacts, find_torch_facts

INSTALL = "install with `pip install -r requirements.txt`"
CPU_SCALES = "smoke, mini and overnight"


class TorchChecks:
    """Checks that share one answer of PyTorch, which takes seconds."""

    @cached_property
    def answer(self) -> TorchFacts | NoTorch:
        """What PyTorch finds, or why it cannot be used."""
        try:
            return find_torch_facts()
        except NoTorch as reason:
            return reason

    def checks(self) -> dict[str, Check]:
        """Subject -> check."""
        return {
            "PyTorch": self.torch,
            "torchvision": self.torchvision,
            "bf16": self.bf16,
            "threads": self.threads,
            "GPU": self.gpus,
        }

    def torch(self) -> Iterator[Finding]:
        """Version and build."""
        if isinstance(self.answer, NoTorch):
            yield Finding(
                "PyTorch",
                "missing",
                f"cannot be imported: {self.answer}",
                f"Nothing can be trained or evaluated; {INSTALL}.",
                needed=True,
            )
        elif self.answer.cuda:
            found = f"{self.answer.version}, built for CUDA {self.answer.cuda}"
            yield Finding("PyTorch", "ok", found, "It computes on NVIDIA GPUs and on the CPU.")
        else:
            meaning = "It computes on the CPU alone; environment/lock-cuda.txt has the CUDA build."
            yield Finding("PyTorch", "ok", f"{self.answer.version}, a CPU build", meaning)

    def torchvision(self) -> Iterator[Finding]:
        """Whether it can be imported beside this PyTorch."""
        facts = self._facts()
        if facts.torchvision_problem:
            yield Finding(
                "torchvision",
                "problem",
                f"cannot be imported ({facts.torchvision_problem})",
                f"No model can be built, because timm imports it; {INSTALL}.",
                needed=True,
            )
        elif facts.has_shim:
            meaning = "This suite declares them itself and calls none, so nothing is lost."
            found = f"{facts.torchvision}; its compiled operators do not load beside this PyTorch"
            yield Finding("torchvision", "ok", found, meaning)
        else:
            meaning = "Nothing needs to be declared in their place."
            yield Finding(
                "torchvision", "ok", f"{facts.torchvision}, with compiled operators", meaning
            )

    def bf16(self) -> Iterator[Finding]:
        """How fast the processor multiplies bf16, measured now."""
        facts = self._facts()
        found = f"{facts.bf16_slowdown:.1f} times the time of fp32 on this CPU (measured now)"
        meaning = f"On the CPU, precision auto means {facts.cpu_precision}"
        if facts.bf16_slowdown >= WARNING_LIMIT:
            meaning = f"{meaning}; --precision bf16 would only be slower."
            yield Finding("bf16", "missing", found, meaning)
        else:
            yield Finding("bf16", "ok", found, f"{meaning}.")

    def threads(self) -> Iterator[Finding]:
        """Threads of PyTorch beside the cores that this process may use."""
        from core.runtime.processes import cores

        facts = self._facts()
        usable = cores()
        found = f"{facts.threads} of PyTorch, {usable} usable cores"
        if facts.threads > usable:
            meaning = f"Threads wait for one another; set OMP_NUM_THREADS={usable}."
            yield Finding("threads", "problem", found, meaning)
        else:
            meaning = "On the CPU, run computes one run per core at a time; --jobs changes it."
            yield Finding("threads", "ok", found, meaning)

    def gpus(self) -> Iterator[Finding]:
        """The GPUs that PyTorch can use, or why it uses none."""
        facts = self._facts()
        drivers = [path for path in DRIVERS if os.path.exists(path)]
        for index, gpu in enumerate(facts.gpus):
            has = "with bf16" if gpu.precision == "bf16" else "without bf16"
            found = f"{index}: {gpu.name}, {gpu.memory / 1e9:.0f} GB, {has}"
            yield Finding("GPU", "ok", found, f"Precision auto means {gpu.precision} on it.")
        if facts.gpus:
            return
        if drivers and not facts.cuda:
            meaning = "This PyTorch is a CPU build; install environment/lock-cuda.txt."
            yield Finding("GPU", "problem", f"a driver ({drivers[0]}), unused", meaning)
        elif drivers:
            meaning = "The driver may be too old for this CUDA; nvidia-smi says its version."
            found = f"a driver ({drivers[0]}), but PyTorch finds no GPU"
            yield Finding("GPU", "problem", found, meaning)
        else:
            meaning = (
                "Scale paper would take weeks to years on a CPU; "
                f"scales {CPU_SCALES} are made for CPUs."
            )
            yield Finding("GPU", "missing", "none", meaning)

    def _facts(self) -> TorchFacts:
        """What PyTorch finds. Raises NoTorch if it cannot be used."""
        if isinstance(self.answer, NoTorch):
            raise NoTorch("PyTorch cannot be imported")
        return self.answer
