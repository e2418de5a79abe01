"""What a run would be: its configuration, its plan, and an estimate, before anything is read, trained or written."""

from __future__ import annotations

import dataclasses
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import fsum
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cl_suite.core.errors import CLSuiteError
from cl_suite.core.scenario import Requirement
from cl_suite.info.answer import plural, text_width
from cl_suite.info.measured import records_of, stored
from cl_suite.records.record import RunRecord, load_record

if TYPE_CHECKING:
    from cl_suite.core.types import StreamInfo
    from cl_suite.runs.plan import Plan

UNKNOWN = "not known; a first run tells"
SAME = ("model", "features", "text")  # groups that must be equal for a record to say how long a sample takes


@dataclasses.dataclass(frozen=True)
class Preview:
    """What a request would do. estimate: of one seed; a text in place of a number says why it is not known."""

    text: str  # the configuration as YAML, which --config reads
    config: dict[str, Any]
    plan: dict[str, Any]
    estimate: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"config": self.config, "plan": self.plan, "estimate": self.estimate}

    def to_text(self) -> str:
        """Return YAML: the configuration, then plan and estimate as comments."""
        lines = ["# A dry run: nothing was downloaded, trained or written. This is what would run."]
        lines += self.text.splitlines()[1:]
        for title, facts in (("plan", self.plan), ("estimate, for each seed", self.estimate)):
            lines += ["#", f"# {title}"]
            for name, value in facts.items():
                lines += _comment(name.replace("_", " "), value)
        return "\n".join(lines)


def preview(plans: Sequence[Plan]) -> Preview:
    """Return what several seeds of one configuration would do. Raise UsageError for what such a run would refuse."""
    from cl_suite.runs.saved_config import config_of, config_text

    first = plans[0]
    described, exact = _described(first)
    return Preview(
        text=config_text(first),
        config=config_of(first),
        plan=_plan(plans),
        estimate=_estimate(first, described, exact=exact),
    )


def _plan(plans: Sequence[Plan]) -> dict[str, Any]:
    from cl_suite.runs.evaluations import settings_of

    first = plans[0]
    asked = [name for name, settings in settings_of(first.composed.run).items() if settings.evaluate]
    facts = first.stream.cls.facts
    train = first.composed.run.train
    return {
        "strategy": first.strategy.name,
        "stream": first.stream.name,
        "scenario": first.scenario.value,
        "protocol": f"{first.composed.run.protocol}: {plural(train.epochs, 'epoch')}, batches of {train.batch_size}",
        "device": str(first.device),
        "data": "none needed" if facts.embedded else f"{facts.needs}, below {first.request.data_root.path}",
        "evaluations": [*asked, *first.request.diagnostics] or "none beside the scores",
        "records": {str(each.record_path): _state(each) for each in plans},
    }


def _state(plan: Plan) -> str:
    """Return what is there of a run already, and what would be done."""
    path = plan.record_path
    status = load_record(path).status if path.exists() else None
    if status == "complete":
        return "would be run again and replaced" if plan.request.overwrite else "is there: --overwrite runs it again"
    if plan.checkpoint.exists() and plan.request.resume:
        return "goes on from its checkpoint"
    return "failed before: would be run again" if status else "would be run"


def _described(plan: Plan) -> tuple[StreamInfo | None, bool]:
    """Return what a strategy would be told of the stream, and whether that is exact; None where it is not known.

    An embedded stream is made, which needs no files. Of another its sizes are those it states for its default options.
    """
    from cl_suite.core.data_root import DataRoot

    run, facts = plan.composed.run, plan.stream.cls.facts
    if run.features.is_on:
        return None, False
    if not facts.embedded:
        return _stated(plan), False
    from cl_suite.runs.build import scenario_stream_of
    from cl_suite.runs.load import load_stream

    with tempfile.TemporaryDirectory() as folder:
        root = DataRoot(Path(folder), offline=True)
        stream = plan.stream.cls(run.stream)
        loaded = load_stream(stream, run, root=root, seeds=plan.seeds, device=plan.device)
        return scenario_stream_of(plan, loaded).info, True


def _stated(plan: Plan) -> StreamInfo | None:
    """Return a stream's info made of the sizes it states; None where options or samples make others of them."""
    import torch

    from cl_suite.core.objective import Classification
    from cl_suite.core.scenario_stream import SEGMENTS
    from cl_suite.core.schedule import plan_visits
    from cl_suite.core.types import StreamInfo

    run, sizes = plan.composed.run, plan.stream.cls.facts.sizes
    train, each = run.train, sizes.classes_per_task
    if run.stream != plan.stream.cls.Config() or sizes.tasks is None or sizes.train is None or each is None:
        return None
    shape, vocabulary = sizes.input_shape, None
    if shape is None:  # texts: an id takes as much, however long the texts are
        shape = {"tokens": (run.text.max_length,), "mask": (run.text.max_length,)}
        vocabulary = run.text.vocabulary
    provides = plan.scenario.provides
    told = Requirement.BOUNDARIES in provides
    most = each if isinstance(each, int) else max(each)
    shared = Requirement.NEW_CLASSES not in provides and plan.scenario.provides != frozenset()
    outputs = most if shared else (sizes.classes or 0)
    if not shared and sizes.classes == most:  # all tasks have the same classes: an own block of outputs each
        outputs = most * sizes.tasks if told else most
    share = train.validation if told else 0.0
    cuts = [round(number * sizes.train / sizes.tasks) for number in range(sizes.tasks + 1)]
    parts = [round((after - before) * (1 - share)) for before, after in pairwise(cuts)]
    planned = plan_visits(parts, run.schedule, epochs=train.epochs)[-1].end
    segments = train.segments or SEGMENTS
    steps = -(-planned // train.batch_size)
    if told:
        steps = sum(-(-part // train.batch_size) * train.epochs for part in parts)
    return StreamInfo(
        stream=plan.stream.name,
        scenario=plan.scenario,
        n_experiences=sizes.tasks if told else segments,
        input_shape=shape,
        n_outputs=outputs,
        objective=Classification(),
        prepare=lambda raw, generator=None: raw,
        train=train,
        seeds=plan.seeds,
        device=torch.device("cpu"),
        planned_samples=planned,
        planned_steps=steps,
        vocabulary=vocabulary,
    )


def _estimate(plan: Plan, info: StreamInfo | None, *, exact: bool) -> dict[str, Any]:
    """Return what one seed will take, as far as it can be told."""
    basis = "the embedded data" if exact else "the sizes that the stream states"
    facts: dict[str, Any] = {}
    samples: int | None = None
    if info is None:
        why = (
            "its features are made first"
            if plan.composed.run.features.is_on
            else "the stream's data would have to be read"
        )
        facts["tasks"] = facts["samples"] = f"not known: {why}"
    else:
        facts["experiences"] = info.n_experiences
        facts["samples"] = samples = _expected(plan, info)
        facts["steps"] = info.planned_steps
        facts["parameters"] = _parameters(plan, info)
        facts["basis"] = f"{basis}; samples with replay as the strategy expects them, steps over fresh samples"
    return facts | _from_records(plan, samples)


def _expected(plan: Plan, info: StreamInfo) -> int | None:
    """Return the samples a strategy expects to draw, replay included."""
    from cl_suite.runs.build import strategy_of

    try:
        return strategy_of(plan, SimpleNamespace(info=info))[1]  # type: ignore[arg-type]
    except CLSuiteError:
        if info.stream == plan.stream.name and plan.stream.cls.facts.embedded:
            raise
        return None  # it asks what is not known without the data


def _parameters(plan: Plan, info: StreamInfo) -> str:
    """Return the size of one network. Raise UsageError where it does not fit the stream."""
    import torch

    from cl_suite.runs.networks import network_factory_of

    if plan.composed.run.model.encoder is not None:
        return "not known: an encoder would be read"
    shipped = plan.network.shipped and plan.weights is None  # another is tried with numbers, as before a run
    with torch.device("meta" if shipped else "cpu"):  # on meta nothing is drawn or stored
        network = network_factory_of(plan, SimpleNamespace(info=info))()  # type: ignore[arg-type]
    count = sum(parameter.numel() for parameter in network.parameters())
    return f"{count:,} in a network of {type(network.backbone).__name__}, {4 * count / 1e6:.2f} MB"


def _from_records(plan: Plan, samples: int | None) -> dict[str, Any]:
    """Return time and memory as records tell them: of this configuration, else of one whose samples take as long."""
    device = "cpu" if plan.device.type == "cpu" else None
    for whose, files in stored(plan.request.results).items():
        records = [
            record
            for record in records_of(files, plan.strategy.name, plan.stream.name, plan.scenario.value)
            if device is None or record.provenance.get("device") == device
        ]
        same = [record for record in records if record.config_hash == plan.record_path.parent.name]
        if same:
            return _told(same, 1.0, f"{plural(len(same), 'record')} of this configuration ({whose})")
        alike = [record for record in records if _alike(record, plan) and record.costs.get("samples_drawn")]
        if alike and samples:
            latest = max(alike, key=lambda record: str(record.provenance.get("started")))
            factor = samples / latest.costs["samples_drawn"]
            return _told([latest], factor, f"a record with other options ({whose}), by its samples")
    return {"seconds": UNKNOWN, "peak_memory": UNKNOWN}


def _alike(record: RunRecord, plan: Plan) -> bool:
    """Whether a sample of a record's run took as much as one of the plan's."""
    from cl_suite.records.compatibility import with_values_before

    then, now = with_values_before(record.config), plan.config
    return all(then.get(group) == now.get(group) for group in SAME)


def _told(records: Sequence[RunRecord], factor: float, basis: str) -> dict[str, Any]:
    def mean(name: str) -> float | None:
        values = [record.costs[name] for record in records if record.costs.get(name) is not None]
        return fsum(values) / len(values) if values else None

    seconds, memory = mean("wall_seconds"), mean("peak_memory_bytes")
    where = sorted({str(record.provenance.get("device")) for record in records})
    return {
        "seconds": UNKNOWN if seconds is None else round(factor * seconds, 1),
        "peak_memory": UNKNOWN if memory is None else f"{memory / 1e6:,.0f} MB",
        "measured_on": f"{', '.join(where)}, by {basis}; another machine takes another time",
    }


def _comment(name: str, value: Any) -> list[str]:
    """Return one fact as comment lines of at most the width of the terminal."""
    if isinstance(value, Mapping):
        value = [f"{key}: {text}" for key, text in value.items()]
    entries = value if isinstance(value, list) else [f"{value:,}" if isinstance(value, int | float) else str(value)]
    if value is None:
        entries = [UNKNOWN]
    lines: list[str] = []
    for number, entry in enumerate(entries):
        head = f"#   {name if number == 0 else '':13}"
        lines += textwrap.wrap(
            entry,
            text_width(),
            initial_indent=head,
            subsequent_indent=f"#   {'':15}",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
