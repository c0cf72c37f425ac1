"""Optuna's samplers and pruners with the arguments of a sweep file."""

import optuna

from core.runtime.seeds import derive_seed
from sweeps.engine.schema import (
    GpConfig,
    GridConfig,
    HalvingConfig,
    MedianConfig,
    RandomConfig,
    SamplerConfig,
)
from sweeps.engine.search import Search


def make_sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of trial `number`.

    Each trial has its own seed, so the suggested values depend on the sweep's seed, the trial's
    number and the finished trials. They do not depend on which worker asks, or how often. Trial 0
    gets the base row's values if the space contains them.
    """
    config = search.sweep.sampler
    if isinstance(config, GridConfig):
        grid = {key: parameter.grid() for key, parameter in search.space.items()}
        # The seed also numbers the points, so it must be the same for all trials.
        return optuna.samplers.GridSampler(grid, seed=config.seed % 2**32)
    sampler = _independent_sampler(config, derive_seed(config.seed, "sweep", number) % 2**32)
    if number == 0 and search.base_values is not None:
        return optuna.samplers.PartialFixedSampler(search.base_values, sampler)
    return sampler


def _independent_sampler(config: SamplerConfig, seed: int) -> optuna.samplers.BaseSampler:
    arguments = config.model_dump(exclude={"kind", "seed"})
    if isinstance(config, RandomConfig):
        return optuna.samplers.RandomSampler(seed=seed)
    if isinstance(config, GpConfig):
        return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False, **arguments)
    return optuna.samplers.TPESampler(seed=seed, **arguments)


def make_pruner(search: Search) -> optuna.pruners.BasePruner:
    """The sweep's pruner. Its steps are percent of a trial's fine-tuning."""
    config = search.sweep.pruner
    if config is None:
        return optuna.pruners.NopPruner()
    arguments = config.model_dump(exclude={"kind", "at"})
    if isinstance(config, MedianConfig):
        return optuna.pruners.MedianPruner(**arguments)
    if isinstance(config, HalvingConfig):
        return optuna.pruners.SuccessiveHalvingPruner(**arguments)
    return optuna.pruners.HyperbandPruner(**arguments)
