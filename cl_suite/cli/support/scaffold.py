"""Writes a working single-file plugin and its test: `cl-bench new strategy my_method`."""

from __future__ import annotations

import re
from pathlib import Path

from cl_suite.core.errors import UsageError

STRATEGY = '''"""{class_name}: say in one line what it does, and name the paper.

As it stands: finetuning, held back by a quadratic pull towards the weights it had after the previous experience.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from cl_suite import Batch, Experience, GradientStrategy, StreamInfo
from torch import Tensor, nn


class {class_name}(GradientStrategy):
    """Finetuning with a quadratic pull towards the previous weights."""

    @dataclass
    class Config(GradientStrategy.Config):
        """Overrides, `strategy.<field>=...`; the parent has lr, momentum, optimizer and weight_decay."""

        pull: float = 0.1  # strength of the pull

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Before the stream begins."""
        super().setup(info, build_model)
        self.anchor: list[Tensor] = []  # weights after the previous experience; empty during the first
        self.penalties: list[Tensor] = []  # of the current experience, on the device

    def start(self, experience: Experience) -> None:
        """Before the first batch of an experience."""
        super().start(experience)
        self.penalties = []

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy, plus pull/2 |theta - anchor|^2 from the second experience on."""
        loss = super().loss(batch)
        if not self.anchor:
            return loss
        distances = [(p - a).square().sum() for p, a in zip(self.model.parameters(), self.anchor, strict=True)]
        penalty = self.config.pull / 2 * torch.stack(distances).sum()
        self.penalties.append(penalty.detach())
        return loss + penalty

    def finish(self, experience: Experience) -> None:
        """After the last batch, while the samples can still be read with experience.batches(epochs=1)."""
        self.anchor = [p.detach().clone() for p in self.model.parameters()]

    def constraints(self) -> dict[str, float]:
        """Let `cl-bench check` see that the pull is not silently zero."""
        return {{"pull": float(torch.stack(self.penalties).mean()) if self.penalties else 0.0}}

    def state_dict(self) -> dict[str, Any]:
        """All that learning changes, so that an interrupted run goes on bit for bit."""
        return super().state_dict() | {{"anchor": self.anchor}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it; tensors arrive on the CPU."""
        super().load_state_dict(state)
        self.anchor = [value.to(self.info.device) for value in state["anchor"]]
'''

TEST = '''"""Does {class_name} keep every promise of the interface? Run with `pytest {file_name}`."""

from pathlib import Path

from cl_suite import check_strategy


def test_{name}_keeps_every_promise():
    findings = check_strategy(f"{{Path(__file__).parent / '{name}.py'}}:{class_name}")
    assert not [str(finding) for finding in findings if finding.failed]
'''


def write_strategy(name: str, folder: Path) -> list[Path]:
    """Write `<name>.py` and `test_<name>.py` into `folder` and return their paths.

    Raise UsageError for a name that is not in snake_case, or if a file is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise UsageError(f"{name!r} is not a name in snake_case. Use small letters, digits and _, e.g. my_method.")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    contents = {
        folder / f"{name}.py": STRATEGY.format(class_name=class_name),
        folder / f"test_{name}.py": TEST.format(name=name, class_name=class_name, file_name=f"test_{name}.py"),
    }
    for path in contents:
        if path.exists():
            raise UsageError(f"{path} is there already. Choose another name, or move it away.")
    for path, text in contents.items():
        path.write_text(text, encoding="utf-8")
    return list(contents)
