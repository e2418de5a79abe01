"""An evaluation as somebody might add one: it counts samples, and is told by how much to multiply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cl_suite import UsageError
from cl_suite.core.scenario import Requirement
from cl_suite.evaluation.protocol import PerExperience, Settings


@dataclass
class CountingSettings(Settings):
    without: ClassVar[str] = "counting.* multiplies what is not counted. Add --evaluate counting."

    times: int = 1
    full_disk: bool = False

    def check_values(self):
        if self.times < 1:
            raise UsageError(f"counting.times={self.times} is too small. Use 1 or more.")

    def refuse(self, strategy, stream, scenario):
        if Requirement.BOUNDARIES not in scenario.provides:
            raise UsageError(f"--evaluate counting needs tasks, and {scenario} tells none.")


class Counting(PerExperience):
    def observe(self, experience, meter, scores):
        self.entries.append({"samples": self.settings.times * meter.samples_drawn})

    def finish(self, shift_log, note):
        if self.settings.full_disk:
            raise UsageError("cannot write to a full disk. Name another folder.")

    def metrics(self, R):
        return {"samples_counted": float(self.entries[-1]["samples"])}

    def record(self):
        return {"experiences": self.entries}
