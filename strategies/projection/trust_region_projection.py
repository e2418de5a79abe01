"""Gradient projection with a trust region: what TRGP and CUBER share beyond GPM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cl_suite import Batch, Experience, GradientStrategy, Inputs, Predictor, StreamInfo, UsageError
from strategies.projection.gradient_projection import GradientProjection
from strategies.projection.regimes import RegimeLog
from strategies.projection.trust_region import ScaledReuse, projection_shares, trust_region


@dataclass
class TrustRegionOptions:
    """Options of task correlation and of the reuse of frozen weights, beside `ProjectionOptions`."""

    eps1: float = 0.5  # share of the gradient inside an old task's space above which the two are correlated; PMNIST 0.2
    trust_region: int = 2  # old tasks whose weights are reused in a layer, at most
    correlation_samples: int = 0  # training samples behind the gradient that decides; 0 = `samples`
    scaling: bool = True  # whether they are reused at all (Q)
    code_compat: bool = False  # the released program's slips: see docs/methods/projection.md


class TrustRegionProjection(GradientProjection):
    """Gradient projection whose new tasks reuse the weights of the old ones they are correlated with.

    reuse: the scaling matrices; log: the regimes of every task so far
    """

    def __init__(self, strategy: GradientStrategy, info: StreamInfo, options: Any) -> None:
        """options: `ProjectionOptions` and `TrustRegionOptions` in one."""
        super().__init__(strategy, info, options)
        self.trust_options: TrustRegionOptions = options
        if not 0 <= options.eps1 <= 1:
            raise UsageError(f"strategy.eps1={options.eps1} is a share of the gradient. Use 0 to 1.")
        for name in ("trust_region", "correlation_samples"):
            if getattr(options, name) < 0:
                raise UsageError(f"strategy.{name}={getattr(options, name)} is too small. Use 0 or more.")
        self.reuse = ScaledReuse(self.network, self.spaces, code_compat=options.code_compat)
        self.log = RegimeLog()

    @property
    def freezes_norms(self) -> bool:
        """Whether scale and shift of batch normalisation stay after the first task; the released program forgot to."""
        return super().freezes_norms and not self.trust_options.code_compat

    def correlate(self, experience: Experience) -> tuple[dict[str, Tensor], dict[str, list[float]]]:
        """Return, per layer, the new task's gradient G [out, d] at the old weights and rho_j for each old task j.

        One batch, through the new task's untrained outputs.
        """
        G = self.correlation_gradients(experience)
        return G, {name: projection_shares(G[name], space) for name, space in self.spaces.items()}

    def correlation_gradients(self, experience: Experience, batch: Batch | None = None) -> dict[str, Tensor]:
        """Return the gradient [out, d] per layer on `correlation_samples` samples; on `batch` if that is as many."""
        count = self.trust_options.correlation_samples
        if batch is None or count not in (0, self.options.samples):
            batch = self.sample(experience, count=count)
        return self.gradients(batch)

    def begin_reuse(self, experience: Experience, shares: dict[str, list[float]]) -> None:
        """Scale the weights of each layer's trust region, and train the scaling beside the network."""
        o = self.trust_options
        size = o.trust_region if o.scaling else 0
        chosen = {name: trust_region(rho, eps1=o.eps1, size=size) for name, rho in shares.items()}
        assert experience.task_id is not None
        matrices = self.reuse.begin(experience.task_id, chosen)
        if matrices:
            self._strategy.optimizer.add_param_group({"params": matrices})

    def trained_tensors(self) -> list[Tensor]:
        """Return all that training moves, the scaling matrices of the current task included."""
        return [*super().trained_tensors(), *self.reuse.parameters()]

    def remember_task(self, batch: Batch, *, task_id: int) -> None:
        """Choose the task's own bases from what the layers read on `batch`, and keep its scaling matrices."""
        rule, code_compat = self.options.first_task_rank, self.trust_options.code_compat
        self.remember(
            batch, lambda space, R, threshold: space.grow_by_task(R, threshold, rule=rule, code_compat=code_compat)
        )
        self.reuse.end(task_id)

    def predictor(self, plain: Predictor, task_id: int | None) -> Predictor:
        """Return `plain` with the weights scaled as the task was learned."""
        scalings = self.reuse.of(task_id)

        def predict(inputs: Inputs) -> Tensor:
            with self.network.scaled(scalings):
                return plain(inputs)

        return predict

    def state_dict(self) -> dict[str, Any]:
        """Return bases, scaling matrices and regimes."""
        return super().state_dict() | {"reuse": self.reuse.state_dict(), "log": self.log.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.reuse.load_state_dict(state["reuse"])
        self.log.load_state_dict(state["log"])

    def diagnostics(self) -> dict[str, Any]:
        """Return what the bases hold, the bytes of the scaling matrices, and the regimes with their map."""
        facts = super().diagnostics() | self.log.diagnostics() | {"scaling_bytes": self.reuse.bytes_stored()}
        if self.log.regimes:
            facts["figures"]["regimes"] = self.log.figure()
        return facts
