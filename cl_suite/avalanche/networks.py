"""Our networks as Avalanche calls them. Imports Avalanche: only from within functions that need it."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.models.base_model import BaseModel
from avalanche.models.dynamic_modules import MultiTaskModule
from torch import Tensor, nn

from cl_suite.core.types import Prepare
from cl_suite.networks.network import HeadBank, Network

ABSENT = -1000.0  # what an output that does not compete answers; finite, as in Avalanche's own classifiers


class PreparedView:
    """Makes of stored samples (integers) what a network reads; samples that are floats are prepared already.

    In a step the samples of a training batch are augmented, alike for all who ask about the same tensor (an old
    network that is distilled). Copies of a network share it.
    """

    def __init__(self, prepare: Prepare) -> None:
        self._prepare = prepare
        self._generator: torch.Generator | None = None  # augments while it is set
        self._inputs: Tensor | None = None  # the latest that were augmented, and what came of them
        self._outputs: Any = None

    def __deepcopy__(self, memo: Any) -> PreparedView:
        return self

    def augment(self, generator: torch.Generator | None) -> None:
        """Augment from now on; None = no longer."""
        self._generator, self._inputs, self._outputs = generator, None, None

    def __call__(self, inputs: Tensor) -> Any:
        """[B, ...] as stored or prepared -> [B, ...] as the network reads it."""
        if inputs.is_floating_point():
            return inputs
        if self._generator is None:
            return self._prepare(inputs)
        if inputs is not self._inputs:
            self._inputs, self._outputs = inputs, self._prepare(inputs, self._generator)
        return self._outputs


class Extractor(nn.Module):
    """Prepares samples and returns the backbone's features [B, D]."""

    def __init__(self, network: Network, view: PreparedView) -> None:
        super().__init__()
        self.backbone = network.backbone
        self.view = view

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, ...], as stored (integers) or prepared (floats) -> features [B, D]."""
        return self.backbone(self.view(inputs))


class OpenOutputs:
    """Which outputs compete, [n_outputs] bool: copies of a network share it, so that all know the classes of now."""

    def __init__(self, heads: HeadBank) -> None:
        self._heads = heads

    def __deepcopy__(self, memo: Any) -> OpenOutputs:
        return self

    @property
    def mask(self) -> Tensor:
        """[n_outputs] bool."""
        return self._heads.opened


class Classifier(nn.Module):
    """The heads' layer; outputs that are not open answer ABSENT, or what the layer says (`whole`)."""

    def __init__(self, heads: HeadBank, *, whole: bool = False) -> None:
        super().__init__()
        self.linear: nn.Module = heads.linear
        self.open_outputs = OpenOutputs(heads)
        self.whole = whole or heads.future

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] -> [B, n_outputs], finite."""
        outputs = self.linear(features)
        return outputs if self.whole else outputs.masked_fill(~self.open_outputs.mask, ABSENT)


class TaskFreeNetwork(nn.Module, BaseModel):
    """A network that is not told the task."""

    def __init__(self, extractor: Extractor, classifier: Classifier) -> None:
        super().__init__()
        self.extractor = extractor
        self.classifier: nn.Module = classifier

    def get_features(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, D]."""
        return self.extractor(x)

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, n_outputs]."""
        return self.classifier(self.get_features(x))


class TaskAwareNetwork(MultiTaskModule, BaseModel):
    """A network that is told each sample's task: outputs of other tasks answer ABSENT."""

    masks: Tensor

    def __init__(self, extractor: Extractor, classifier: Classifier, masks: Tensor) -> None:
        super().__init__()
        self.extractor = extractor
        self.classifier: nn.Module = classifier
        self.register_buffer("masks", masks)  # [T, n_outputs] bool

    def get_features(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, D]."""
        return self.extractor(x)

    def forward(self, x: Tensor, task_labels: Tensor | int | None = None) -> Any:
        """[B, ...] and tasks [B] -> [B, n_outputs], in one pass; without tasks {task: [B, n_outputs]} of all so far."""
        outputs = self.classifier(self.get_features(x))
        if task_labels is None:
            return {task: self._of(outputs, self.masks[task]) for task in sorted(self.known_train_tasks_labels)}
        tasks = torch.as_tensor(task_labels, device=outputs.device)
        return self._of(outputs, self.masks[tasks])

    @staticmethod
    def _of(outputs: Tensor, mask: Tensor) -> Tensor:
        return outputs.masked_fill(~mask, ABSENT)
