"""From a stream's name to its card: planned and loaded as a run would, then looked at."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cl_suite.cards.ceilings import read_ceilings
from cl_suite.cards.describe import (
    LoadedStream,
    as_title,
    chance_of,
    encoding_summary,
    file_rows,
    robot_tasks,
    sample_summary,
    score_summary,
    short_facts,
    task_rows,
)
from cl_suite.cards.pictures import draw_picture
from cl_suite.cards.stream_card import Ceiling, ScenarioRow, StreamCard, TaskRow
from cl_suite.core.data_root import DataRoot
from cl_suite.core.errors import DataError, UsageError
from cl_suite.core.registry import Chosen
from cl_suite.core.scenario import Requirement, Scenario
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.core.stream import Stream
from cl_suite.records.provenance import without_machine
from cl_suite.report.tables.labels import flatten
from cl_suite.robots.kept_demonstrations import kept_alone
from cl_suite.runs.config import Composed, RunConfig, compose_config
from cl_suite.runs.load import check_first_task, encode_stream
from cl_suite.runs.plan import configuration, seeds_of
from cl_suite.runs.refuse import choose_scenario

CPU = torch.device("cpu")
FACTS = ("source", "licence", "embedded")  # entries of `Stream.card` that options of a stream may change
OTHERS = ("text", "features", "schedule")  # groups of options that decide what the samples are


@dataclass
class NoOptions:
    """In the place of a strategy's options: a card is of a stream alone."""


def make_card(
    stream: Chosen,
    *,
    spec: str,
    root: DataRoot,
    results: Path,
    scenario: str | None = None,
    overrides: Sequence[str] = (),
) -> tuple[StreamCard, bytes]:
    """Return a stream's card, and its picture as PNG, b"" if there is none.

    spec:     what the stream was asked for by
    results:  the folder of records, for the ceiling
    scenario: None = the stream's default

    Demonstrations that are not kept are not made. Where data is absent the card says so in `missing` and has the rest.
    Raise UsageError for a scenario or options that cannot be.
    """
    chosen = choose_scenario(stream, scenario)
    composed = _composed(stream, chosen, overrides)
    instance: Stream = stream.cls(composed.run.stream)
    entries = dict(instance.card())
    facts = instance.facts.with_class_variables({name: entries.pop(name) for name in FACTS if name in entries})
    entries.pop("version", None)  # records have that of the class
    loaded = _load(instance, composed, root)
    scenario_streams = _scenario_streams(stream, loaded, composed, chosen)
    ceilings, elsewhere = read_ceilings(
        results,
        stream=stream.name,
        version=facts.version,
        config=configuration(composed, stream, root=root),
        task_names=[task.name for task in loaded.data.tasks] if loaded.data else (),
    )
    scenarios = tuple(_row(each, scenario_streams.get(each), ceilings.get(each.value, ())) for each in facts.scenarios)
    tasks = _tasks(loaded, scenario_streams.get(chosen), scenarios[facts.scenarios.index(chosen)], entries)
    picture, caption = draw_picture(loaded.data, tasks, robot_tasks(loaded))
    options = {key: without_machine(value) for key, value in _options(composed).items()}
    texts = {as_title(name): str(entry) for name, entry in entries.items() if isinstance(entry, (str, int, float))}
    score = texts.pop("Score", "") or score_summary(scenario_streams.get(chosen), loaded)
    summary, *notes = [" ".join(part.split()) for part in (stream.cls.__doc__ or "").strip().split("\n\n")]
    flags = [*(["--scenario", scenario] if scenario else []), *map(without_machine, overrides)]
    card = StreamCard(
        name=stream.name,
        command=shlex.join(["cl-bench", "card", without_machine(spec), *flags]),
        summary=summary,
        notes=tuple(notes),
        source=facts.origin,
        licence=facts.licence,
        version=facts.version,
        embedded=facts.embedded,
        scenario=chosen.value,
        options=options,
        changed=_changed(options, stream),
        scenarios=scenarios,
        tasks=tasks,
        elsewhere=elsewhere,
        files=file_rows(loaded.data.checksums if loaded.data else instance.checksums(), root),
        samples=sample_summary(loaded.data),
        learned=encoding_summary(loaded.run_data),
        score=score,
        outside=len(loaded.data.ood) if loaded.data and loaded.data.ood else 0,
        facts=texts | short_facts(loaded.data),
        pairs=_matrices(entries, tasks),
        missing=loaded.missing,
        caption=caption,
    )
    return card, picture


def _composed(stream: Chosen, scenario: Scenario, overrides: Sequence[str]) -> Composed:
    if any(text.replace(" ", "") == "protocol=paper" for text in overrides):
        raise UsageError(
            "protocol=paper is of a strategy on a stream, and a card is of a stream alone. "
            "Give its stream options, e.g. stream.n_tasks=10."
        )
    return compose_config(
        strategy="a card",
        strategy_config=lambda overrides: NoOptions,
        stream=stream.name,
        stream_config=stream.cls.Config,
        scenario=scenario.value,
        overrides=overrides,
    )


def _load(instance: Stream, composed: Composed, root: DataRoot) -> LoadedStream:
    """Load, as far as the data is there."""
    seeds, run = seeds_of(composed.run.seeds, 0), composed.run
    check_first_task(run)
    try:
        with kept_alone():
            data = instance.load(root, seeds)
        return LoadedStream(data, encode_stream(instance, data, run, root=root, seeds=seeds, device=CPU), (), "")
    except DataError as problem:
        return LoadedStream(None, None, instance.outline(root), str(problem))


def _scenario_streams(
    stream: Chosen, loaded: LoadedStream, composed: Composed, chosen: Scenario
) -> dict[Scenario, ScenarioStream]:
    """Return the stream under each of its scenarios that its options allow. Raise UsageError for the card's own."""
    streams: dict[Scenario, ScenarioStream] = {}
    if loaded.run_data is None:
        return streams
    run = composed.run
    for scenario in stream.cls.scenarios:
        try:
            streams[scenario] = ScenarioStream(
                stream.name,
                loaded.run_data.data,
                scenario,
                train=run.train,
                seeds=seeds_of(run.seeds, 0),
                device=CPU,
                schedule=run.schedule if scenario is chosen else None,
            )
        except UsageError:
            if scenario is chosen:
                raise
    return streams


def _row(scenario: Scenario, stream: ScenarioStream | None, ceilings: tuple[Ceiling, ...]) -> ScenarioRow:
    chances = [chance_of(task, stream) for task in stream.tasks] if stream else []
    known = [chance for chance in chances if chance is not None]
    return ScenarioRow(
        scenario.value,
        # New classes are none of what is told: whether a task brings some is up to the stream.
        told=tuple(sorted(each.value for each in scenario.provides - {Requirement.NEW_CLASSES})),
        chance=sum(known) / len(known) if known and len(known) == len(chances) else None,
        ceilings=ceilings,
    )


def _tasks(
    loaded: LoadedStream, scenario_stream: ScenarioStream | None, row: ScenarioRow, entries: Mapping[str, Any]
) -> tuple[TaskRow, ...]:
    """Return the tasks, with what the highest ceiling reached in each and what the stream says of each."""
    best = row.ceilings[0].per_task if row.ceilings else ()
    columns = {as_title(name): entry for name, entry in entries.items() if isinstance(entry, Mapping)}
    columns = {title: entry for title, entry in columns.items() if not _is_matrix(entry)}
    return tuple(
        dataclasses.replace(
            task,
            ceiling=best[number] if best else None,
            told={title: entry[task.name] for title, entry in columns.items() if task.name in entry},
        )
        for number, task in enumerate(task_rows(loaded, scenario_stream))
    )


def _is_matrix(entry: Any) -> bool:
    """Whether an entry is of pairs of tasks: {task: {task: share}}."""
    return isinstance(entry, Mapping) and any(isinstance(value, Mapping) for value in entry.values())


def _matrices(entries: Mapping[str, Any], tasks: Sequence[TaskRow]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return entries of pairs of tasks, {title: {task: {task: share}}}, of the card's own tasks, each once."""
    names = list(dict.fromkeys(task.name for task in tasks))
    return {
        as_title(title): {name: dict(entry[name]) for name in names if isinstance(entry.get(name), Mapping)}
        for title, entry in entries.items()
        if _is_matrix(entry)
    }


def _options(composed: Composed) -> dict[str, str]:
    """Return the stream's options, and those of other groups that are not as usual: key -> value as one writes it."""
    plain, usual = composed.plain, _usual()
    groups = {"stream": plain["stream"], **{name: plain[name] for name in OTHERS if plain[name] != usual[name]}}
    if plain["train"]["validation"]:
        groups["train"] = {"validation": plain["train"]["validation"]}
    return flatten(groups)


def _changed(options: Mapping[str, str], stream: Chosen) -> tuple[str, ...]:
    """Return those of the options that are not at their default."""
    usual = flatten({"stream": dataclasses.asdict(stream.cls.Config()), **_usual()})
    return tuple(key for key, value in options.items() if usual.get(key) != value)


def _usual() -> dict[str, Any]:
    return {name: dataclasses.asdict(getattr(RunConfig(), name)) for name in OTHERS}
