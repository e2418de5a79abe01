"""Why definitions of one family differ on a run: what sets them apart, and what in R makes it matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from cl_suite.metrics.definitions.definition import Definition, Value
from cl_suite.metrics.definitions.measured import Measured
from cl_suite.metrics.matrix import complete

SHOWN = 3  # tasks named, of those that make a difference
OTHERS = 2  # more than so many definitions that agree are called the others
SAME = 1e-9  # apart by less than this is rounding


def differences(run: Measured, definitions: Sequence[Definition], values: Mapping[str, Value]) -> dict[str, list[str]]:
    """Return {family: sentences} of those families of which two or more definitions are defined for the run."""
    sentences = {}
    for family in dict.fromkeys(each.family for each in definitions):
        defined = [e for e in definitions if e.family == family and values[e.name].number is not None]
        if len(defined) > 1:
            facts = _FACTS.get(family, lambda run: [])(run)
            sentences[family] = [*_equal(defined, values), *_traits(defined), *facts]
    return sentences


def _equal(defined: Sequence[Definition], values: Mapping[str, Value]) -> list[str]:
    """Name those that give the same number here."""
    labels = _labels(defined)
    groups: list[tuple[float, list[str]]] = []
    for each in defined:
        number = values[each.name].number
        assert number is not None  # only what is defined comes here
        group = next((names for value, names in groups if abs(value - number) < SAME), None)
        if group is None:
            groups.append((number, [labels[each.name]]))
        else:
            group.append(labels[each.name])
    return [f"the same here: {_list(names)}" for _, names in groups if len(names) > 1]


def _traits(defined: Sequence[Definition]) -> list[str]:
    """Say where the definitions part: one sentence for each trait of which they have more than one."""
    labels, lines = _labels(defined), []
    for trait in dict.fromkeys(name for each in defined for name in each.traits):
        kinds: dict[str, list[str]] = {}
        for each in defined:
            if trait in each.traits:
                kinds.setdefault(each.traits[trait], []).append(labels[each.name])
        if len(kinds) > 1:
            usual = max(kinds, key=lambda kind: len(kinds[kind]))
            if len(kinds[usual]) > OTHERS:
                kinds = {**{kind: names for kind, names in kinds.items() if kind != usual}, usual: ["the others"]}
            lines.append(f"{trait}: {'; '.join(f'{kind} ({_list(names)})' for kind, names in kinds.items())}")
    return lines


def _labels(defined: Sequence[Definition]) -> dict[str, str]:
    """Return {name: what tells it apart}: of the commonest metric of a family only whose definition it is."""
    metrics = Counter(each.name.partition("@")[0] for each in defined)
    usual = metrics.most_common(1)[0][0]
    return {
        each.name: each.name.partition("@")[2]
        if each.name.startswith(f"{usual}@") and metrics[usual] > 1
        else each.name
        for each in defined
    }


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def _of_accuracy(run: Measured) -> list[str]:
    lines = []
    if run.counts and min(run.counts) < max(run.counts):
        lines.append(
            f"tasks have {min(run.counts):g} to {max(run.counts):g} test samples, so micro leans to the larger"
        )
    elif run.counts:
        lines.append("all tasks have as many test samples, so micro and macro agree")
    return lines


def _of_forgetting(run: Measured) -> list[str]:
    R = run.tasks
    rose, ended_best = [], []
    for j in range(len(R) - 1):
        answered = {row: score for row in range(len(R) - 1) if (score := R[row][j]) is not None}
        diagonal, last = R[j][j], R[-1][j]
        if not answered or diagonal is None or last is None:
            continue
        best = max(answered, key=lambda row: (answered[row], -row))
        if answered[best] > diagonal:
            rose.append(
                f"task {j} was best after experience {best} ({answered[best]:.4f}), not when it was learned "
                f"({diagonal:.4f})"
            )
        if last > answered[best]:
            ended_best.append(f"task {j} ended above all before: negative, but 0 where the last row may be the best")
    if not rose and not ended_best:
        return ["every task was best when it was learned, so it makes no difference which rows the maximum is over"]
    return [*_some(rose), *_some(ended_best)]


def _of_forward(run: Measured) -> list[str]:
    R = run.tasks
    before = [R[j - 1][j] for j in range(1, len(R))]
    missing = sum(score is None for score in before)
    lines = [f"{missing} of {len(before)} tasks could not be answered before they were learned"] if missing else []
    untrained = complete(run.baseline[1:])
    if untrained:
        lines.append(f"the untrained network scores {sum(untrained) / len(untrained):.4f} on the tasks after the first")
    return lines


_FACTS: dict[str, Callable[[Measured], list[str]]] = {
    "average accuracy": _of_accuracy,
    "accuracy over the stream": _of_accuracy,
    "forgetting": _of_forgetting,
    "forward transfer": _of_forward,
}


def _some(sentences: Sequence[str]) -> list[str]:
    left = len(sentences) - SHOWN
    return [*sentences[:SHOWN], *([f"and so {left} more"] if left > 0 else [])]
