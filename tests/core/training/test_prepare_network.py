"""Whether a model is compiled depends on the context alone."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from core.training import task
from core.training.run_context import RunContext


@pytest.mark.parametrize("compiled", [False, True])
def test_a_model_is_compiled_only_if_the_context_says_so(
    compiled: bool, context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[torch.device, nn.Module]] = []
    monkeypatch.setattr(task, "compile_for", lambda *call: calls.append(call))
    model = nn.Linear(2, 2).eval()
    network = task.prepare_network(model, replace(context, compile=compiled))
    assert network is model
    assert model.training
    assert calls == ([(context.device, model)] if compiled else [])
