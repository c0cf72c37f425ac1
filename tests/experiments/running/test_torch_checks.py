"""`run.py doctor` on simulated builds of PyTorch, GPUs and processors."""

import json
import subprocess
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.running import torch_checks, torch_facts
from experiments.running.findings import Finding, ask, can_run
from experiments.running.torch_checks import TorchChecks
from experiments.running.torch_facts import Gpu, NoTorch, TorchFacts, find_torch_facts

CPU = TorchFacts(
    version="2.13.0+cpu",
    cuda="",
    threads=2,
    bf16_slowdown=0.6,
    cpu_precision="bf16",
    gpus=(),
    torchvision="0.28.0",
    torchvision_problem="",
    has_shim=True,
)
CUDA = replace(CPU, version="2.13.0+cu130", cuda="13.0", has_shim=False)
H100 = Gpu("NVIDIA H100", 80_000_000_000, "bf16")
P100 = Gpu("Tesla P100", 16_000_000_000, "fp32")


def findings_of(
    facts: TorchFacts | NoTorch, monkeypatch: pytest.MonkeyPatch, *, driver: bool = False
) -> dict[str, list[Finding]]:
    """Subject -> findings on a machine with two usable cores.

    facts: what PyTorch finds, or why it cannot be imported.
    driver: whether an NVIDIA driver is there.
    """

    def answer() -> TorchFacts:
        if isinstance(facts, NoTorch):
            raise facts
        return facts

    monkeypatch.setattr(torch_checks, "find_torch_facts", answer)
    monkeypatch.setattr("core.runtime.processes.cores", lambda: 2)
    monkeypatch.setattr(torch_checks, "DRIVERS", ("/dev/null",) if driver else ())
    return {subject: ask(subject, check) for subject, check in TorchChecks().checks().items()}


def levels_of(findings: dict[str, list[Finding]]) -> dict[str, list[str]]:
    return {subject: [finding.level for finding in found] for subject, found in findings.items()}


def test_a_cpu_build_with_the_shim_is_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = findings_of(CPU, monkeypatch)
    assert levels_of(findings) == {
        "PyTorch": ["ok"],
        "torchvision": ["ok"],
        "bf16": ["ok"],
        "threads": ["ok"],
        "GPU": ["missing"],
    }


def test_gpus_are_listed_with_memory_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = findings_of(replace(CUDA, gpus=(H100, P100)), monkeypatch, driver=True)
    first, second = findings["GPU"]
    assert (first.level, second.level) == ("ok", "ok")
    assert "80 GB" in first.found
    assert "bf16" in first.meaning
    assert "fp32" in second.meaning


@pytest.mark.parametrize("facts", [CPU, CUDA])
def test_a_driver_without_a_usable_gpu_is_a_problem(
    facts: TorchFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    (finding,) = findings_of(facts, monkeypatch, driver=True)["GPU"]
    assert finding.level == "problem"
    assert ("lock-cuda.txt" in finding.meaning) == (facts is CPU)


def test_a_torchvision_that_cannot_be_imported_prevents_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = replace(CPU, torchvision="", torchvision_problem="RuntimeError: no nms")
    assert not can_run(findings_of(broken, monkeypatch)["torchvision"])


def test_bf16_in_software_is_not_recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = replace(CPU, bf16_slowdown=30.0, cpu_precision="fp32")
    (finding,) = findings_of(slow, monkeypatch)["bf16"]
    assert finding.level == "missing"
    assert "fp32" in finding.meaning


def test_more_threads_than_cores_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = findings_of(replace(CPU, threads=64), monkeypatch)["threads"]
    assert finding.level == "problem"
    assert "OMP_NUM_THREADS=2" in finding.meaning


def test_without_pytorch_its_checks_say_so_and_runs_are_prevented(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    findings = findings_of(NoTorch("its import was ended by signal 4"), monkeypatch)
    assert "signal 4" in findings["PyTorch"][0].found
    assert not can_run(findings["PyTorch"])
    others = [found for subject, found in findings.items() if subject != "PyTorch"]
    assert all("PyTorch" in finding.found for found in others for finding in found)


@pytest.mark.parametrize(
    ("code", "error", "expected"),
    [(-4, "", "signal 4"), (1, "Traceback\nOSError: libcudart", "libcudart"), (1, "", "code 1")],
)
def test_an_import_that_ends_the_process_is_described(
    code: int, error: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = SimpleNamespace(returncode=code, stdout="", stderr=error)
    monkeypatch.setattr("subprocess.run", lambda *_, **options: done)
    with pytest.raises(NoTorch, match=expected):
        find_torch_facts()


def test_an_import_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: Any, timeout: float, **options: Any) -> None:
        raise subprocess.TimeoutExpired("python", timeout)

    monkeypatch.setattr("subprocess.run", hang)
    with pytest.raises(NoTorch, match=str(torch_facts.TIMEOUT_SECONDS)):
        find_torch_facts()


def test_facts_survive_json() -> None:
    facts = replace(CUDA, gpus=(H100, P100))
    assert torch_facts.parse_torch_facts(json.dumps(asdict(facts))) == facts


def test_this_machine_has_the_facts_of_its_pytorch() -> None:
    import torch

    facts = torch_facts.measure_torch_facts()
    assert facts.version == torch.__version__
    assert facts.threads == torch.get_num_threads()
    assert len(facts.gpus) == torch.cuda.device_count()
    assert facts.torchvision
    assert facts.bf16_slowdown > 0
