"""Variational inference: fit a mean-field Gaussian to a task by Monte-Carlo gradients of the evidence lower bound.

Blundell et al. 2015, "Weight Uncertainty in Neural Networks" (arXiv 1505.05424); IBCL and VCL fit their posteriors so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_suite import Batch, Experience, UsageError, check_choices
from strategies.preferences.mean_field import MeanField, Parameters, divergence


@dataclass
class VariationalOptions:
    """How a posterior is fitted, mixed into a strategy's `Config`. Optimiser: Adam, a fresh one for each posterior."""

    lr: float = 1e-3  # of Adam, on means and log-deviations
    kl_scale: str = "exact"  # exact: each batch has its share of the KL; per_batch: all of it (IBCL's program)
    kl_weight: float = 0.1  # ours, on top: below 1 tempers the prior; papers: 1
    kl_estimate: str = "closed"  # closed form; sampled: log q - log p of the one draw (IBCL's program)
    init: str = "network"  # posterior begins at: network (its weights, or the prior's mean), prior, standard (N(0, 1))
    init_deviation: float = 0.05  # of init=network

    def check_variational(self) -> None:
        """Raise UsageError for a value outside its range."""
        check_choices(
            self,
            {
                "kl_scale": ("exact", "per_batch"),
                "kl_estimate": ("closed", "sampled"),
                "init": ("network", "prior", "standard"),
            },
        )
        for name in ("lr", "init_deviation"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UsageError(f"strategy.{name}={getattr(self, name)} is not possible. Use a number above 0.")
        if not 0 <= self.kl_weight < float("inf"):
            raise UsageError(f"strategy.kl_weight={self.kl_weight} is not possible. Use 0 or more.")


def starting_point(options: VariationalOptions, parameters: Parameters, prior: MeanField, *, first: bool) -> MeanField:
    """Return where the search for a posterior begins, by `options.init`; `first`: no task has been learned yet."""
    if options.init == "standard":  # IBCL's program
        return MeanField(torch.zeros_like(prior.mean), torch.ones_like(prior.mean))
    if options.init == "prior" or not first:
        return prior
    own = parameters.vector()
    return MeanField(own, torch.full_like(own, options.init_deviation))


NegativeLogLikelihood = Callable[[Tensor, Batch], Tensor]
"""Parameters [P], batch -> the sum over its samples of -log p(y | x, parameters)."""


def fit_posterior(
    experience: Experience,
    surprise: NegativeLogLikelihood,
    *,
    prior: MeanField,
    start: MeanField,
    options: VariationalOptions,
    generator: torch.Generator,
    phase: str,
    order: int | None = None,
) -> MeanField:
    """Minimise, by one draw a batch, sum of -log p(y | x, theta) + KL(q || prior) from `start` on; return q.

    generator: of the draws, on the device; gets no gradient: prior. One pass of the run's epochs over the experience;
    order: as in `Experience.batches`.
    """
    mean = start.mean.detach().clone().requires_grad_()
    log_deviation = start.deviation.detach().log().clone().requires_grad_()
    optimizer = torch.optim.Adam([mean, log_deviation], lr=options.lr)
    # For one sample: of the KL once per pass over the task, or (IBCL's program) once per batch.
    share = options.kl_weight / (experience.n_samples if options.kl_scale == "exact" else experience.batch_size)
    for batch in experience.batches(phase=phase, order=order):
        q = MeanField(mean, log_deviation.exp())
        theta = q.sample(generator)
        if options.kl_estimate == "closed":
            complexity = divergence(q, prior)
        else:
            complexity = q.log_density(theta) - prior.log_density(theta)
        loss = surprise(theta, batch) / len(batch) + share * complexity
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        experience.report(loss)
    return MeanField(mean.detach(), log_deviation.detach().exp())
