"""Were shifts found, and were experts used as tasks are? A strategy's own account against the hidden truth.

Pure functions of what a run observed; nothing here is told to a strategy. Never imports torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Protocol

MOST_POINTS = 600  # of a line in a figure


class Stretch(Protocol):
    """A stretch start <= n < end of the stream that belongs to one task."""

    @property
    def task(self) -> int: ...  # noqa: D102
    @property
    def start(self) -> int: ...  # noqa: D102
    @property
    def end(self) -> int: ...  # noqa: D102


@dataclass
class ShiftLog:
    """What a strategy told of its batches, one entry each: `experience.observe`.

    samples:   samples of the stream handed over up to the end of the batch
    loss:      of the expert that met the batch, before it was trained on
    threshold: what the (smoothed) loss was compared with; None = no check
    expert:    the expert the batch was trained on
    shift:     1 where a change was detected, else 0
    """

    samples: list[int]
    loss: list[float]
    threshold: list[float | None]
    expert: list[int]
    shift: list[int]

    @classmethod
    def none(cls) -> ShiftLog:
        """Return no observations."""
        return cls([], [], [], [], [])

    def add(self, samples: int, loss: float, threshold: float | None, expert: int, shift: bool) -> None:
        """Append one batch."""
        for each, value in zip(fields(self), (samples, loss, threshold, expert, int(shift)), strict=True):
            getattr(self, each.name).append(value)

    def state_dict(self) -> dict[str, list[Any]]:
        """Return the columns."""
        return {each.name: list(getattr(self, each.name)) for each in fields(self)}


def changes(visits: Sequence[Stretch]) -> list[int]:
    """Return where in the stream, in samples, one task gives way to another."""
    return [after.start for before, after in pairwise(visits) if before.task != after.task]


def shift_quality(visits: Sequence[Stretch], log: ShiftLog, *, blur: int = 0) -> dict[str, Any]:
    """Compare detected shifts with true ones.

    A detection belongs to the last true shift that began before it (a blurred one begins blur / 2 earlier); the first
    of each true shift finds it, every other one is a false alarm. The delay is in samples, from the true shift (the
    middle of a blurred one) to the end of the batch in which it was found.
    """
    true = changes(visits)
    detected = [place for place, flag in zip(log.samples, log.shift, strict=True) if flag]
    delays: dict[int, int] = {}
    false_alarms = 0
    for place in detected:
        begun = [at for at in true if at - blur / 2 < place]
        if begun and begun[-1] not in delays:
            delays[begun[-1]] = place - begun[-1]
        else:
            false_alarms += 1
    return {
        "true_shifts": len(true),
        "detected_shifts": len(detected),
        "missed_shifts": len(true) - len(delays),
        "false_alarms": false_alarms,
        "detection_delay": sum(delays.values()) / len(delays) if delays else None,
        "delays": [delays.get(at) for at in true],
    }


def expert_use(visits: Sequence[Stretch], log: ShiftLog) -> dict[str, Any]:
    """Say which expert served which task: counts in samples, the task of each expert, and re-use when a task returns.

    A returning task re-uses its expert if the one that served most of this visit served most of an earlier one.
    """
    served = [Counter[int]() for _ in visits]
    before = 0
    for end, expert in zip(log.samples, log.expert, strict=True):
        for number, visit in enumerate(visits):
            shared = min(end, visit.end) - max(before, visit.start)
            if shared > 0:
                served[number][expert] += shared
        before = end
    main = [counts.most_common(1)[0][0] if counts else None for counts in served]
    returns = reused = 0
    for number, visit in enumerate(visits):
        earlier = {main[i] for i in range(number) if visits[i].task == visit.task}
        if earlier and visits[number - 1].task != visit.task:
            returns += 1
            reused += main[number] in earlier
    n_tasks = 1 + max(visit.task for visit in visits)
    experts = sorted(set(log.expert))
    counts = [[0] * len(experts) for _ in range(n_tasks)]
    for visit, each in zip(visits, served, strict=True):
        for expert, samples in each.items():
            counts[visit.task][experts.index(expert)] += samples
    columns = [[counts[task][i] for task in range(n_tasks)] for i in range(len(experts))]
    owner = {str(expert): column.index(max(column)) for expert, column in zip(experts, columns, strict=True)}
    return {
        "experts": len(experts),
        "tasks": n_tasks,
        "samples_of_task_by_expert": counts,
        "task_of_expert": owner,
        "returns": returns,
        "reused": reused,
        "reuse": reused / returns if returns else None,
    }


def shifts_summary(facts: Mapping[str, Any]) -> str:
    """Say in a line how well shifts were found, for facts of `shift_quality` and `expert_use`."""
    detections = facts["true_shifts"] - facts["missed_shifts"]
    return (
        f"{detections} of {facts['true_shifts']} shifts found, {facts['false_alarms']} false alarms; "
        f"experts used: {facts['experts']}, tasks: {facts['tasks']}"
    )


def shift_figures(visits: Sequence[Stretch], log: ShiftLog) -> dict[str, Any]:
    """Return two figures: the loss with true and detected shifts, and expert and task over time."""
    # Detections are always kept; of the other batches as many as a figure can show.
    every = max(1, len(log.samples) // MOST_POINTS)
    batches = [i for i in range(len(log.samples)) if i % every == 0 or log.shift[i]]
    x = [log.samples[i] for i in batches]
    at = {"true shift": changes(visits), "detected": [s for s, f in zip(log.samples, log.shift, strict=True) if f]}
    task = [next(v.task for v in visits if log.samples[i] <= v.end) for i in batches]
    return {
        "loss": {
            "kind": "lines",
            "title": "Loss before training on each batch, with true and detected shifts",
            "x_label": "samples",
            "y_label": "loss",
            "x": x,
            "series": {
                "loss of the active expert": [log.loss[i] for i in batches],
                "threshold of the smoothed loss": [log.threshold[i] for i in batches],
            },
            "marks": {name: places for name, places in at.items() if places},
        },
        "experts": {
            "kind": "lines",
            "title": "Expert in training and true task over time",
            "x_label": "samples",
            "y_label": "number",
            "x": x,
            "steps": True,
            "series": {"task (hidden)": task, "expert": [log.expert[i] for i in batches]},
        },
    }
