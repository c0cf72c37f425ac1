"""Training steps: ours and the plain one, memory, what feeds them, and whether all precisions agree."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from analysis.bench.limits import precisions, product
from analysis.bench.measure import Row, peak_memory, rows, share_of, take_turns
from analysis.bench.per_image import per_image_view
from analysis.bench.work import Work
from core.config import Finetune, Precision, Pretrain
from core.data.batches import Batch, load_batches, normalize, to_unit
from core.lmim import LMIM
from core.model.compile import can_compile, compile_blocks
from core.model.cost import cost
from core.model.masking import draw_visible
from core.model.recognizer import Recognizer, sequence_cross_entropy
from core.runtime.seeds import generator
from core.training.finetune import FinetuneTask
from core.training.finetune import make_model as make_recognizer
from core.training.loop import RunContext, Training
from core.training.optim import parameter_groups
from core.training.pretrain import PretrainTask
from core.training.pretrain import make_model as make_lmim
from core.views.augmentation import augment

RATE = 1e-4


def config_of(work: Work, stage: str, batch: int, precision: Precision) -> Pretrain | Finetune:
    return (
        work.pretrain(batch, precision) if stage == "pretrain" else work.finetune(batch, precision)
    )


def our_training(config: Pretrain | Finetune, work: Work) -> Training:
    """The very loop of a run; it writes nothing."""
    context = RunContext(torch.device(work.device), num_workers=0 if work.device == "cpu" else 14)
    if isinstance(config, Pretrain):
        task: PretrainTask | FinetuneTask = PretrainTask(config, make_lmim(config, None), context)
    else:
        task = FinetuneTask(config, make_recognizer(config, None), None, context)
    with TemporaryDirectory() as folder:
        training = Training(task, config, [work.images().selection()], Path(folder), context)
        assert training.log is not None
        training.log.close()
    return training


def our_step(work: Work, stage: str, batch: int, precision: Precision) -> Callable[[], object]:
    """One step: draws, views, both branches, backward pass, optimizer."""
    training, images = (
        our_training(config_of(work, stage, batch, precision), work),
        work.batch(batch),
    )

    def step() -> None:
        training.update(images, batch, RATE)
        training.step += 1

    return step


def plain_step(work: Work, stage: str, batch: int) -> Callable[[], object]:
    """The same step as one writes it first: fp32, unfused attention, the optimizer by parameter, images one by one."""
    config, images = config_of(work, stage, batch, "fp32"), work.batch(batch)
    model: nn.Module
    if isinstance(config, Pretrain):
        model = lmim = make_lmim(config, None).to(work.device).train()
        loss_of = partial(plain_pretraining, lmim, images, config)
    else:
        model = recognizer = make_recognizer(config, None).to(work.device).train()
        loss_of = partial(plain_reading_loss, recognizer, images)
    groups = parameter_groups(model, config.optimizer, config.encoder.depth)
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=config.optimizer.betas, foreach=False)

    def step() -> None:
        with sdpa_kernel(SDPBackend.MATH):
            loss_of().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def plain_pretraining(model: LMIM, batch: Batch, config: Pretrain) -> Tensor:
    """LMIM's loss, each guidance view made by itself."""
    random, source = torch.Generator().manual_seed(0), np.random.default_rng(0)
    size, device = config.encoder.image, model.decoder.mask_token.device
    views = [
        per_image_view(Image.fromarray(one.permute(1, 2, 0).numpy()), size, source)
        for one in batch.images
    ]
    places = torch.tensor(batch.places)
    visible = draw_visible(
        config.mask, config.encoder, batch.images, places, batch.size, generator=random
    )
    images = normalize(to_unit(batch.images, device))
    return model(images, normalize(torch.stack(views).to(device)), visible.to(device)).loss


def plain_reading_loss(model: Recognizer, batch: Batch) -> Tensor:
    """The recognizer's loss, each image augmented by itself."""
    device, place = model.classify.weight.device, torch.zeros(1, dtype=torch.long)
    tokens, lengths = (
        one.to(device) for one in model.charset.encode(batch.labels, model.config.max_length)
    )
    images = to_unit(batch.images, device)
    augmented = [
        augment(image[None], place, 1, generator=generator(number))
        for number, image in enumerate(images)
    ]
    return sequence_cross_entropy(
        model(normalize(torch.cat(augmented)), tokens, lengths), tokens, lengths
    )


def measure_steps(work: Work, stage: str) -> list[Row]:
    """Images/s, share of the matrix product's rate, and on a CPU memory, of a stage's step; pre-training's at each batch."""
    batches = work.batches if stage == "pretrain" else work.batches[:1]
    return [row for batch in batches for row in _steps_of(work, stage, batch)]


def _steps_of(work: Work, stage: str, batch: int) -> list[Row]:
    native = precisions(work.device)
    makers = {"plain": partial(plain_step, work, stage, batch)}
    makers |= {
        f"ours, {precision}": partial(our_step, work, stage, batch, precision)
        for precision in native
    }
    # first, and each in a process of its own, while this one holds nothing
    memory = (
        {name: peak_memory(maker) for name, maker in makers.items()} if work.device == "cpu" else {}
    )
    products = {precision: product(work.device, precision) for precision in native}
    limits = {f"limit, {precision}": path for precision, (path, _) in products.items()}
    paths = {name: maker() for name, maker in makers.items()}
    seconds = take_turns(paths | limits, _turns(work, batch), work.device)
    operations = cost(config_of(work, stage, batch, "fp32"))[1] * batch
    found = rows(
        stage,
        f"{work.name}, batch {batch}",
        "images",
        batch,
        {name: seconds[name] for name in paths},
        "plain",
    )
    for row in found:
        precision: Precision = "bf16" if row.path.endswith("bf16") else "fp32"
        limit = seconds[f"limit, {precision}"]
        share = share_of(limit, products[precision][1], row.seconds, operations)
        row.ratios[f"of the {precision} matrix product's rate"] = share
    return [replace(row, memory_mb=memory.get(row.path)) for row in found]


def _turns(work: Work, batch: int) -> int:
    if work.device != "cpu":
        return work.repetitions
    return 2 if batch > 16 or work.quick else 3


def measure_feeding(work: Work) -> list[Row]:
    """Steps fed by the real input path: images/s in all, and the share of time in which the step waits for its batch."""
    batch = work.batches[0]
    precision = precisions(work.device)[-1]
    config = work.pretrain(batch, precision)
    steps = 3 if work.device == "cpu" else 30
    training = our_training(config, work)
    context, size, order = training.context, config.encoder.image, training.order()
    read = load_batches(
        work.images(),
        size,
        order,
        labeled=False,
        workers=context.num_workers,
        pinned=context.pinned,
    )
    parts = iter(read)
    waited, spent = [], []
    for step in range(steps + 1):
        started = time.perf_counter()
        images = next(parts)
        ready = time.perf_counter()
        training.update(images, batch, RATE)
        if work.device != "cpu":
            torch.cuda.synchronize()
        if step:
            waited.append(ready - started)
            spent.append(time.perf_counter() - started)
    share = sum(waited) / sum(spent)
    case = f"{work.name}, batch {batch}, {context.num_workers} readers"
    return [
        Row(
            "feeding",
            case,
            f"ours, {precision}",
            "images",
            batch,
            spent,
            {"share of time waiting for data": share},
        )
    ]


KINDS = {  # of PyTorch's operators, by name; in place and backward ones are the same kind
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


def _plain_name(operator: str) -> str:
    return operator.removeprefix("aten::").removesuffix("_backward").rstrip("_")


def measure_profile(work: Work) -> list[Row]:
    """Where a pre-training step's time goes, by kind of operator; of one step, its first ones apart."""
    from torch.profiler import ProfilerActivity, profile

    batch = work.batches[0]
    precision = precisions(work.device)[-1]
    step = our_step(work, "pretrain", batch, precision)
    step()
    on_gpu = work.device != "cpu"
    with profile(
        activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    ) as found:
        step()
    clock = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    spent = {event.key: getattr(event, clock) / 1e6 for event in found.key_averages()}
    whole = sum(spent.values())
    kinds = {
        kind: sum(spent[key] for key in spent if _plain_name(key) in names)
        for kind, names in KINDS.items()
    }
    kinds["all else"] = whole - sum(kinds.values())
    case = f"pre-training, {work.name}, batch {batch}, {precision}"
    return [
        Row("profile", case, kind, "steps", 1, [seconds], {"of the step": seconds / whole})
        for kind, seconds in sorted(kinds.items(), key=lambda one: -one[1])
    ]


def measure_agreement(work: Work) -> list[Row]:
    """How far bf16, and compiled blocks where a compiler is at hand, are from fp32 after 50 steps, on a small model."""
    small, case = replace(work, quick=True), "pre-training, a tiny model, 50 steps"
    ways: list[tuple[Precision, bool]] = [("bf16", False), ("fp32", True), ("bf16", True)]
    found = []
    for precision, compiled in ways:
        if precision not in precisions(work.device):
            continue
        if can_compile(work.device) or not compiled:
            started = time.perf_counter()
            ratios = {
                "largest relative difference of a loss from fp32's": agreement(
                    small, 16, 50, precision, compiled
                )
            }
            name = f"{'compiled' if compiled else 'as it is'}, {precision}"
            found.append(
                Row("agreement", case, name, "runs", 1, [time.perf_counter() - started], ratios)
            )
    return found


def agreement(
    work: Work, batch: int, steps: int, precision: Precision, compiled: bool = False
) -> float:
    """The largest relative difference of the loss from fp32's, over so many steps from the same seed."""
    losses: list[list[float]] = []
    kinds: tuple[Precision, ...] = ("fp32", precision)
    for kind in kinds:
        training = our_training(work.pretrain(batch, kind), work)
        if compiled and losses:
            compile_blocks(training.task.model)
        images = work.batch(batch)
        losses.append([])
        for step in range(steps):
            losses[-1].append(float(training.update(images, batch, RATE)["loss"]))
            training.step = step + 1
    return max(abs(other - own) / own for own, other in zip(*losses, strict=True))
