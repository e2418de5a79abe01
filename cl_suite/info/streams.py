"""What a stream is, offers and takes, and how its data comes: from what it says of itself, without loading any."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.metadata import EntryPoint

from cl_suite.core.registry import STREAM, choose, installed, provided
from cl_suite.core.scenario import StreamFacts
from cl_suite.info.answer import Answer, Option, paragraphs
from cl_suite.info.options import asked, stated
from cl_suite.info.read_facts import facts_of, provided_facts
from cl_suite.info.source import NotConstant, class_at


@dataclasses.dataclass(frozen=True)
class StreamCard:
    """A stream's first line, its facts (None = it says nothing), and its options."""

    what: str
    about: str
    facts: StreamFacts | None
    options: list[Option]


def stream_names() -> list[str]:
    """Return every installed stream, and those of other libraries that are there."""
    return [*installed(STREAM), *provided(STREAM)]


def stream_card(name: str) -> StreamCard:
    """Return what a stream says of itself; name: installed, `provider/name`, or path/to/file.py:Class.

    Raise UsageError or PluginError where there is none, or it cannot be used.
    """
    points = installed(STREAM)
    if name in points:
        try:
            return _installed(name, points[name])
        except NotConstant:
            pass
    others = provided(STREAM)
    if name in others:
        summary, module = others[name]
        return StreamCard(summary, "", provided_facts(name, module), [])
    cls = choose(STREAM, name).cls
    what, _, about = (cls.__doc__ or "").partition("\n")
    return StreamCard(what, about, cls.facts, asked(cls.Config, "stream."))


def describe_stream(name: str) -> Answer:
    """Return what is known of a stream."""
    card = stream_card(name)
    facts = card.facts or StreamFacts()
    known = card.facts is not None
    return Answer(
        kind="stream",
        name=name,
        what=card.what,
        facts={
            "about": paragraphs(card.about),
            "modality": facts.modality or "not stated",
            "sizes": _sizes(facts) or ["not known without its data"],
            "input": shape_text(facts.sizes.input_shape),
            "scenarios": [scenario.value for scenario in facts.scenarios] if known else [],
            "of_no_task": "its data has samples of no task: --evaluate open_set" if facts.out_of_distribution else "",
            "source": facts.origin,
            "licence": facts.licence or "not stated",
            "data": _data(name, facts),
            "more": f"cl-bench card {name} shows its tasks, with chance, ceiling and a picture",
        },
        options=card.options,
    )


def shape_text(shape: tuple[int, ...] | Mapping[str, tuple[int, ...]] | None) -> str:
    """Return 3 x 32 x 32; of several tensors each with its name."""
    if shape is None:
        return ""
    if isinstance(shape, Mapping):
        return ", ".join(f"{name} {shape_text(each)}" for name, each in shape.items())
    return " x ".join(map(str, shape))


def _installed(name: str, point: EntryPoint) -> StreamCard:
    source = class_at(point.value)
    return StreamCard(
        source.summary, source.description, facts_of(name, point), stated(source.inner("Config"), "stream.")
    )


def _sizes(facts: StreamFacts) -> list[str]:
    sizes = facts.sizes
    each = sizes.classes_per_task
    classes = "" if each is None else f"{each if isinstance(each, int) else ' to '.join(map(str, each))} classes each"
    lines = {
        "tasks": sizes.tasks,
        "classes of all tasks together": sizes.classes,
        "training samples": sizes.train,
        "test samples": sizes.test,
        "rollouts in one evaluation of all tasks": sizes.episodes,
    }
    words = [f"{count:,} {what}" for what, count in lines.items() if count is not None]
    if classes and words:
        words.insert(1, classes)
    return [f"{', '.join(words)}, at default options"] if words else []


def _data(name: str, facts: StreamFacts) -> str:
    if facts.embedded:
        return "nothing to fetch: it needs no files"
    if facts.prerequisites:
        return f"needs {facts.prerequisites}; `cl-bench data {name}` says what is missing"
    return f"needs files; `cl-bench data {name}` fetches and verifies them, and so does a run unless --offline"
