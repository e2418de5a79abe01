"""What else has a name: evaluations, protocols, scenarios, and the groups of options that every run has."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

from cl_suite.core.scenario import Requirement, Scenario
from cl_suite.evaluation.registry import DIAGNOSTICS, EVALUATE
from cl_suite.info.answer import Answer
from cl_suite.info.options import group, groups, stated
from cl_suite.info.source import class_at
from cl_suite.runs.evaluations import ENTRIES

PROTOCOLS = {
    "quick": "For trying things: minutes on two CPU cores. All training data, few passes, small networks",
    "standard": "For leaderboards: 20 epochs, and a tenth of the training data held out for choices",
    "paper": "A whole published setting, with the published figure beside ours where one is verified",
}


def evaluation_names() -> list[str]:
    """Return every evaluation that is asked for by name."""
    return [name for name, entry in ENTRIES.items() if entry.request in (EVALUATE, DIAGNOSTICS)]


def describe_evaluation(name: str) -> Answer:
    """Return what is known of an evaluation."""
    entry = ENTRIES[name]
    source = class_at(entry.evaluation_class)
    options = stated(class_at(entry.settings_class), f"{name}.") if entry.settings_class else []
    return Answer(
        kind="evaluation",
        name=name,
        what=source.module.summary,
        facts={
            "about": source.summary,
            "does": f"beside the scores it will {entry.what}",
            "use": f"--{entry.request} {name}",
            "part_of": "the configuration, so its runs have a row of their own"
            if entry.request == EVALUATE
            else "no configuration: it only looks, and the scores stay what they are",
        },
        options=[option for option in options if option.name != f"{name}.evaluate"],
    )


def describe_protocol(name: str) -> Answer:
    """Return what is known of a protocol."""
    folder = files("configs")
    plain = folder / "protocol" / f"{name}.yaml"
    own = folder / "protocol" / name
    streams = _stems(own) if own.is_dir() else []
    published = _stems(folder / "reproduce") if not plain.is_file() else []
    return Answer(
        kind="protocol",
        name=name,
        what=PROTOCOLS[name],
        facts={
            "sets": _settings(plain.read_text(encoding="utf-8")) if plain.is_file() else "",
            "own_settings": streams,
            "published": published,
            "use": f"protocol={name}",
            "more": "docs/reference/scenarios.md; --dry-run prints what a run would be given",
        },
    )


def describe_scenario(name: str) -> Answer:
    """Return what is known of a scenario."""
    scenario = Scenario(name)
    told = re.search(rf"^ *{name}: +(.+)$", Scenario.__doc__ or "", re.MULTILINE)
    return Answer(
        kind="scenario",
        name=name,
        what=f"{told[1][0].upper()}{told[1][1:]}" if told else "",
        facts={
            "tells": sorted(each.value for each in scenario.provides) or ["nothing"],
            "withholds": sorted(each.value for each in {*Requirement} - scenario.provides) or ["nothing"],
            "use": f"--scenario {name}",
            "more": f"cl-bench list --scenario {name} names what runs there",
        },
    )


def describe_options(name: str) -> Answer:
    """Return a group of options that every run has."""
    config, options = group(name)
    return Answer(
        kind="options",
        name=name,
        what=config.summary,
        facts={"use": f"{name}.<option>=value"},
        options=options,
    )


def option_groups() -> list[str]:
    """Return the groups of options that every run has, beside the strategy's and the stream's."""
    return [*groups()]


def _settings(text: str) -> str:
    from omegaconf import OmegaConf

    values: Any = OmegaConf.to_container(OmegaConf.create(text))
    return ", ".join(f"{outer}.{key}={value}" for outer, inner in values.items() for key, value in inner.items())


def _stems(folder: Any) -> list[str]:
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
