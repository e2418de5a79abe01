"""Joint training by preference: separately trained models on all samples of all tasks, whose front others approach.

Not a continual learner: it keeps every sample. For each preference w one network is trained from its first weights on
sum_k w_k L_k over everything seen so far: linear scalarisation, as in multi-task learning.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from cl_suite import Batch, Experience, OptimizerOptions, StreamInfo
from strategies.preferences.one_per_preference import OnePerPreference
from strategies.preferences.task_memory import TaskMemory


class PreferenceJoint(OnePerPreference):
    """Keep every sample; for each preference train a network from scratch on all of them, weighted: the upper bound."""

    costs = "keeps every sample; for each preference and after each task a training on all so far"

    @dataclass
    class Config(OptimizerOptions):
        """Options of the optimiser. Its rate never drops: epochs of an experience are not those of a training here."""

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network, and an empty store for every sample of the stream."""
        super().setup(info, build_model)
        self.memory = TaskMemory(info, None)
        self.parts["memory"] = self.memory
        self._first = {name: value.clone() for name, value in self.model.state_dict().items()}

    def start(self, experience: Experience) -> None:
        """Open the outputs and store the experience."""
        super().start(experience)
        self.memory.keep(experience)

    def beginning(self) -> dict[str, Tensor]:
        """Return the network as it was built, with the outputs open that are open now."""
        return self._first | {"heads.opened": self.model.heads.opened.clone()}

    def batches(self, experience: Experience, phase: str) -> Iterator[Batch]:
        """Yield batches of everything stored, for as many passes as the others make over one experience."""
        return experience.batches(source=self.memory.samples, phase=phase, order=1)

    def loss(self, batch: Batch) -> Tensor:
        """Return an estimate of sum_k w_k L_k: each sample weighs w_k / n_k, and N over the batch's samples.

        n_k: samples of task k, N: of all; so the mean over an epoch's batches is the sum over tasks.
        """
        shares = self.memory.shares(self.weights, batch) * self.memory.sizes.sum()
        return (shares * self.losses(batch)).mean()

    def expected_samples(self, info: StreamInfo) -> int:
        """Return one pass to store, and for one training after each experience all that is stored by then."""
        once = info.planned_samples // info.train.epochs
        return round(once + info.planned_samples * (info.n_experiences + 1) / 2)
