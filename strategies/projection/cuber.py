"""CUBER: gradient projection that lets a new task move old weights where this should help the old task.

Lin, Yang, Fan & Zhang 2022, "Beyond Not-Forgetting: Continual Learning with Backward Knowledge Transfer" (NeurIPS), on
top of TRGP. In each layer an old task j with input space S_j and gradient g_j is, for a new task with gradient G,

    regime 1, unrelated:         ||G S_j S_j^T|| <= eps1 ||G||          updates orthogonal to S_j
    regime 2, correlated:        above, <g_j, G> < eps2 ||g_j|| ||G||   the same, and W S_j is reused through Q_j (TRGP)
    regime 3, backward transfer: above, <g_j, G> >= eps2 ||g_j|| ||G||  updates inside S_j allowed, with a penalty

No release of the method was at hand: regime 3 follows its description, and what this leaves open is an option.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite import Batch, Experience, Predictor, Requirement, StreamInfo, UsageError
from strategies.projection.options import ProjectionOptions
from strategies.projection.plateau_schedule import PlateauStrategy
from strategies.projection.regimes import BACKWARD, CORRELATED, UNRELATED
from strategies.projection.trust_region import cosine, trust_region
from strategies.projection.trust_region_projection import TrustRegionOptions, TrustRegionProjection

PENALTIES = ("fro", "fro_sq")
SCOPES = ("all", "trust_region")


def regime(rho: float, correlation: float | None, *, eps1: float, eps2: float) -> int:
    """Return the regime of an old task: rho = ||G S S^T|| / ||G||, correlation = cos(g, G) or None where it is moot."""
    if not rho > eps1:
        return UNRELATED
    return BACKWARD if correlation is not None and correlation >= eps2 else CORRELATED


def penalty_slope(norm: Tensor, *, weight: float, squared: bool, steepest: float) -> Tensor:
    """Return c such that c (W - W0) S S^T is the gradient of weight ||(W - W0) S S^T||_F, or of its square, by W.

    norm: of (W - W0) S, the same as that of the penalised matrix since S is orthonormal. The norm has slope `weight`
    however close W is to W0, so that plain steps overshoot and never settle. So c is at most `steepest`: with
    1 / (rate x number of old tasks that pull), one step brings what moved back to 0.
    """
    slope = torch.full_like(norm, 2 * weight) if squared else weight / (norm.square() + 1e-12).sqrt()
    return slope.clamp(max=steepest)


class CUBER(PlateauStrategy):
    """CUBER (Lin et al. 2022): TRGP that also moves old weights where the gradients of old and new task agree."""

    source = "Lin, Yang, Fan & Zhang 2022, NeurIPS, Beyond Not-Forgetting"
    costs = "as trgp, and a gradient of P numbers for each old task; in a step also the penalty on old spaces"
    requires = frozenset({Requirement.BOUNDARIES, Requirement.TASK_ID_AT_TRAIN, Requirement.TASK_ID_AT_TEST})

    @dataclass
    class Config(TrustRegionOptions, ProjectionOptions):
        """Options of backward transfer. With eps2 > 1 no task is in regime 3, and CUBER is TRGP."""

        eps2: float = 0.3  # least cosine of old and new gradient for regime 3; 0 = they agree in sign
        penalty_weight: float = 0.01  # lambda; 0 = none. The paper's values are not known to us; these two are ours
        penalty: str = "fro"  # fro: Frobenius norm of what moved inside S_j; fro_sq: its square
        proximal: bool = True  # whether the penalty's step is kept from overshooting; false: plain gradient steps
        regime3_scope: str = "all"  # all old tasks; trust_region: only those whose weights are reused
        regime3_layers: list[str] = field(default_factory=list)  # layers that may enter regime 3; empty = all
        regime3_recheck_every: int = 0  # epochs after which a task may leave regime 3; 0 = never

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network; nothing is remembered yet."""
        super().setup(info, build_model)
        self.projection = TrustRegionProjection(self, info, self.config)
        self.parts["projection"] = self.projection
        self._check_options()
        self.old_gradients: list[dict[str, Tensor]] = []  # g_j [out, d] per layer, right after task j
        self.free: dict[str, set[int]] = {}  # per layer, old tasks in regime 3 for the current task
        self.free_bases: dict[str, list[tuple[Tensor, Tensor]]] = {}  # their S_j [d, r] and what is unprotected of it
        self.left_regime3: list[dict[str, Any]] = []  # what a recheck took out
        self.moved: list[dict[str, dict[str, float]]] = []  # per task, what `_moved` returned

    def _check_options(self) -> None:
        c = self.config
        for name, known in (("penalty", PENALTIES), ("regime3_scope", SCOPES)):
            if getattr(c, name) not in known:
                raise UsageError(f"strategy.{name}={getattr(c, name)} is not known. Use {' or '.join(known)}.")
        for layer in c.regime3_layers:
            if layer not in self.projection.layers:
                raise UsageError(
                    f"strategy.regime3_layers names {layer}, which is not projected. "
                    f"Use some of {', '.join(self.projection.layers)}."
                )
        if not c.penalty_weight >= 0 or c.regime3_recheck_every < 0:
            raise UsageError("strategy.penalty_weight and strategy.regime3_recheck_every are 0 or more.")

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return plain SGD: momentum and weight decay would move weights along protected directions."""
        return torch.optim.SGD(self.model.parameters(), lr=self.config.lr)

    def enter_training(self) -> None:
        """Training mode, but for running statistics of the first task."""
        self.projection.enter_training()

    def start(self, experience: Experience) -> None:
        """Find the regime of each old task in each layer; protect the bases of all but regime 3."""
        super().start(experience)
        self.free = {}
        if self.projection.tasks_done:
            self.old_weights = {name: W.clone() for name, W in self.projection.network.weights().items()}
            G, shares = self.projection.correlate(experience)
            cosines = {name: self._cosines(name, G[name], shares[name]) for name in shares}
            c = self.config
            regimes = {
                name: [
                    regime(*pair, eps1=c.eps1, eps2=c.eps2) for pair in zip(shares[name], cosines[name], strict=True)
                ]
                for name in shares
            }
            self.projection.log.add(regimes, shares, cosines)
            self.free = {
                name: {task for task, number in enumerate(values) if number == BACKWARD}
                for name, values in regimes.items()
            }
            self.projection.begin_reuse(experience, shares)
        self.projection.protect(experience, free=self.free)
        self._find_free_bases()

    def _find_free_bases(self) -> None:
        """Keep at hand what the penalty needs at every step."""
        self.free_bases = {}
        for name, tasks in self.free.items():
            bases = [self.projection.spaces[name].basis_of(task) for task in sorted(tasks)]
            self.free_bases[name] = [(S, self.projection.projectors[name](S.T)) for S in bases if S.numel()]

    def _cosines(self, layer: str, G: Tensor, shares: list[float]) -> list[float | None]:
        """Return cos(g_j, G) for the old tasks that may enter regime 3 in this layer, None for the others."""
        c = self.config
        if c.regime3_layers and layer not in c.regime3_layers:
            return [None] * len(shares)
        size = c.trust_region if c.regime3_scope == "trust_region" else len(shares)
        near = trust_region(shares, eps1=c.eps1, size=size)
        return [cosine(g[layer], G) if task in near else None for task, g in enumerate(self.old_gradients)]

    def train(self, experience: Experience) -> None:
        """Train until the validation loss no longer falls; the scaling matrices freely beside the weights."""
        self.projection.begin_training()
        super().train(experience)
        self.projection.end_training(experience)

    def after_epoch(self, experience: Experience, epoch: int) -> bool:
        """Protect old tasks again that turned; follow the validation loss."""
        self._recheck(experience, epoch)
        return self.projection.after_epoch(experience)

    def trained_tensors(self) -> list[Tensor]:
        """Return the network's, and the scaling matrices of the current task."""
        return self.projection.trained_tensors()

    @torch.no_grad()
    def adjust_gradients(self, batch: Batch) -> None:
        """Project, and add the gradient of the penalty on what moves inside regime-3 spaces, projected too."""
        self.projection.project()
        for name, bases in self.free_bases.items() if self.config.penalty_weight else ():
            grad = self.projection.layers[name].weight.grad
            if bases and grad is not None:
                self._pull(name, bases, grad)

    def _pull(self, layer: str, bases: list[tuple[Tensor, Tensor]], grad: Tensor) -> None:
        """Add a layer's projected penalty gradient to `grad`, in place.

        A proximal step: the pull is taken where the step along `grad` leads, so that what the penalty outweighs does
        not move at all.
        """
        c, lr = self.config, self.optimizer.param_groups[0]["lr"]
        change = self.projection.layers[layer].weight.flatten(1) - self.old_weights[layer]
        if c.proximal:
            change = change - lr * grad.flatten(1)
        steepest = 1 / (lr * len(bases)) if c.proximal else float("inf")
        for S, unprotected in bases:
            moved = change @ S
            slope = penalty_slope(
                moved.norm(), weight=c.penalty_weight, squared=c.penalty == "fro_sq", steepest=steepest
            )
            grad += (slope * moved @ unprotected).view(grad.shape)

    def _recheck(self, experience: Experience, epoch: int) -> None:
        """Protect old tasks again whose gradient no longer agrees with the new task's."""
        every = self.config.regime3_recheck_every
        if not every or epoch % every or epoch == experience.epochs or not any(self.free.values()):
            return
        G = self.projection.correlation_gradients(experience)
        for name, tasks in self.free.items():
            turned = {task for task in tasks if cosine(self.old_gradients[task][name], G[name]) < self.config.eps2}
            tasks -= turned
            self.left_regime3 += [
                {"task": self.experiences_learned, "layer": name, "old_task": task, "epoch": epoch}
                for task in sorted(turned)
            ]
        self.projection.make_projectors(self.free)
        self._find_free_bases()

    def finish(self, experience: Experience) -> None:
        """Choose the task's own bases, and keep its gradient and scaling matrices."""
        assert experience.task_id is not None
        self.moved.append(self._moved())
        batch = self.projection.sample(experience)
        self.old_gradients.append(self.projection.correlation_gradients(experience, batch))
        self.projection.remember_task(batch, task_id=experience.task_id)

    def _moved(self) -> dict[str, dict[str, float]]:
        """Return ||(W - W0) S_j|| / ||W0 S_j|| per layer and old task: how far its weights moved in the latest task."""
        distances = {}
        for name, W in self.projection.network.weights().items():
            space = self.projection.spaces[name]
            distances[name] = {
                str(task): float(((W - self.old_weights[name]) @ S).norm() / (self.old_weights[name] @ S).norm())
                for task in range(self.projection.tasks_done)
                if (S := space.basis_of(task)).numel()
            }
        return distances

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return the network with the weights scaled as the task was learned."""
        return self.projection.predictor(super().predictor(task_id), task_id)

    def model_selection(self) -> str:
        """Return "validation" where training data is held out: the state with its lowest loss is kept."""
        return self.projection.model_selection()

    def constraints(self) -> dict[str, float]:
        """Return which share of the gradients' norm the projection removed."""
        return self.projection.constraints()

    def diagnostics(self) -> dict[str, Any]:
        """Return bases, scaling matrices, regimes, and how far old weights moved."""
        gradient_bytes = sum(g.nbytes for layers in self.old_gradients for g in layers.values())
        return self.projection.diagnostics() | {
            "old_gradients_bytes": gradient_bytes,
            "left_regime3": self.left_regime3,
            "old_weights_moved": self.moved,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return network, progress, bases, scaling matrices, regimes and old gradients."""
        return super().state_dict() | {
            "old_gradients": list(self.old_gradients),
            "left_regime3": list(self.left_regime3),
            "moved": list(self.moved),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        device = self.info.device
        self.old_gradients = [{name: g.to(device) for name, g in layers.items()} for layers in state["old_gradients"]]
        self.left_regime3, self.moved = list(state["left_regime3"]), list(state["moved"])
