"""Where the time of a pre-training step goes, by kind of operator."""

from torch.profiler import ProfilerActivity, profile

from analysis.bench.limits import expected_seconds, native_precisions
from analysis.bench.measure import Timing
from analysis.bench.setup import BenchSetup
from analysis.bench.steps import make_step
from core.model.cost import cost

# Kind -> PyTorch's operators, without the suffixes of in-place and backward variants.
KINDS = {
    "matrix products": ("mm", "addmm"),
    "attention: products": (
        "bmm",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention",
    ),
    "attention: softmax": ("_softmax", "_softmax_backward_data"),
    "dropout's random numbers": ("random", "ge", "bernoulli"),
    "copies and changes of type": ("copy", "cat", "clone", "index", "fill"),
    "GELU": ("gelu",),
    "layer norms": ("native_layer_norm",),
    "sums and products by element": ("add", "mul", "sub", "sum", "div", "masked_fill", "where"),
    "optimizer": ("_fused_adamw",),
}
OTHER = "all else"


def measure_operators(setup: BenchSetup) -> list[Timing]:
    """Seconds of each kind of operator in one step, after a first one that is not counted."""
    batch = setup.batches[0]
    precision = native_precisions(setup.device)[-1]
    case = f"pre-training, {setup.name}, batch {batch}, {precision}"
    operations = cost(setup.pretrain(batch, precision)).operations * batch
    if not setup.budget.allows_or_cut(case, 2 * expected_seconds(setup, operations)):
        return []
    on_gpu = setup.device != "cpu"
    step = make_step(setup, "pretrain", batch, precision)
    step()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        step()
    clock = "self_device_time_total" if on_gpu else "self_cpu_time_total"  # microseconds
    seconds = {event.key: getattr(event, clock) / 1e6 for event in profiled.key_averages()}
    kinds = seconds_by_kind(seconds)
    total = sum(seconds.values())
    return [
        Timing("profile", case, kind, "steps", 1, [value], {"of the step": value / total})
        for kind, value in sorted(kinds.items(), key=lambda item: -item[1])
    ]


def seconds_by_kind(seconds: dict[str, float]) -> dict[str, float]:
    """Operator -> seconds, summed by kind."""
    kinds = dict.fromkeys([*KINDS, OTHER], 0.0)
    for operator, value in seconds.items():
        kinds[_kind_of(operator)] += value
    return kinds


def _kind_of(operator: str) -> str:
    name = operator.removeprefix("aten::").removesuffix("_backward").rstrip("_")
    return next((kind for kind, names in KINDS.items() if name in names), OTHER)
