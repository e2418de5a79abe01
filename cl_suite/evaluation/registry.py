"""Every evaluation by its name: the one place that knows them. Nothing heavy is imported before one is used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cl_suite.evaluation.protocol import Evaluation, Settings

EVALUATE = "evaluate"  # asked with --evaluate NAME: its options are part of the configuration
DIAGNOSTICS = "diagnostics"  # asked with --diagnostics NAME: it only looks, and is no part of the configuration
ALWAYS = "always"  # asked of every run that it applies to


@dataclass(frozen=True)
class Entry:
    """An evaluation: how it is asked for, what it does, and where its classes are."""

    request: str  # EVALUATE, DIAGNOSTICS, ALWAYS
    what: str  # for --help, after "also"
    evaluation_class: str  # "module:Class"
    settings_class: str = ""

    @property
    def evaluation(self) -> type[Evaluation]:
        """The evaluation's class."""
        return _load(self.evaluation_class)

    @property
    def settings(self) -> type[Settings]:
        """The class of its options; of those asked with --evaluate."""
        return _load(self.settings_class)


def _load(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def _entry(request: str, what: str, evaluation: str, settings: str = "") -> Entry:
    """Return the entry of classes of this folder: `evaluation` is "module:Class", `settings` a class of the same."""
    module = evaluation.partition(":")[0]
    place = f"{__package__}."
    return Entry(request, what, place + evaluation, f"{place}{module}:{settings}" if settings else "")


# In the order in which they stand in a record.
EVALUATIONS: dict[str, Entry] = {
    "detection": _entry(ALWAYS, "hold shifts it found against the true ones", "shift_detection:ShiftDetection"),
    "routing": _entry(ALWAYS, "score its choice of experts", "expert_routing:ExpertRouting"),
    "preferences": _entry(
        EVALUATE,
        "ask for trade-offs between tasks",
        "preferences.evaluation:PreferenceEvaluation",
        "PreferenceSettings",
    ),
    "open_set": _entry(EVALUATE, "show samples of no task", "open_set:OpenSetEvaluation", "OpenSetSettings"),
    "learning": _entry(
        EVALUATE, "score tasks while they are learned", "learning_curve:LearningCurve", "LearningSettings"
    ),
    "calibration": _entry(
        EVALUATE, "hold probabilities against outcomes", "calibration:CalibrationEvaluation", "CalibrationSettings"
    ),
    "classes": _entry(
        EVALUATE, "count answers class by class, in confusion matrices", "classes:ClassesEvaluation", "ClassesSettings"
    ),
    "modules": _entry(DIAGNOSTICS, "measure how each module moves", "module_report:ModuleReport"),
}


def entries_of(request: str, entries: dict[str, Entry]) -> dict[str, Entry]:
    """Return those of `entries` that are asked for in one way, by name."""
    return {name: entry for name, entry in entries.items() if entry.request == request}
