"""Optuna's samplers and pruners, as a sweep's file has them."""

import optuna

from core.runtime.seeds import derive_seed
from sweeps.engine.schema import Gp, Grid, Halving, Median, RandomSearch
from sweeps.engine.search import Search


def make_sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """Of one trial, with a seed of its own: what is drawn depends on the sweep's seed, the trial's number and the trials that
    have finished; not on which worker draws, nor on how often it was begun. The first one takes the base row's values."""
    how = search.sweep.sampler
    seed = derive_seed(how.seed, "sweep", number) % 2**32
    arguments = how.model_dump(exclude={"kind", "seed"})
    sampler: optuna.samplers.BaseSampler
    if isinstance(how, Grid):
        points = {key: one.grid() for key, one in search.space.items()}
        return optuna.samplers.GridSampler(
            points, seed=how.seed % 2**32
        )  # its seed also numbers the points
    if isinstance(how, RandomSearch):
        sampler = optuna.samplers.RandomSampler(seed=seed)
    elif isinstance(how, Gp):
        sampler = optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False, **arguments)
    else:
        sampler = optuna.samplers.TPESampler(seed=seed, **arguments)
    if number == 0 and search.first is not None:
        return optuna.samplers.PartialFixedSampler(search.first, sampler)
    return sampler


def make_pruner(search: Search) -> optuna.pruners.BasePruner:
    """As the sweep has it; steps are per cent of a trial's fine-tuning."""
    how = search.sweep.pruner
    if how is None:
        return optuna.pruners.NopPruner()
    arguments = how.model_dump(exclude={"kind", "at"})
    if isinstance(how, Median):
        return optuna.pruners.MedianPruner(**arguments)
    if isinstance(how, Halving):
        return optuna.pruners.SuccessiveHalvingPruner(**arguments)
    return optuna.pruners.HyperbandPruner(**arguments)
