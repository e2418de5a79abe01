"""The keys of options that a command line may have, and values that are known for some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cl_suite.core.errors import CLSuiteError
from cl_suite.info.answer import Option
from cl_suite.info.networks import AUTO, network_names
from cl_suite.info.options import group, groups, stated
from cl_suite.info.others import PROTOCOLS, evaluation_names
from cl_suite.info.source import NotConstant, class_at
from cl_suite.info.strategies import strategy_source
from cl_suite.info.streams import stream_card
from cl_suite.runs.evaluations import ENTRIES

PROTOCOL, NETWORK = "protocol", "model.name"


def keys_of(named: Mapping[str, str]) -> list[str]:
    """Return every key: of the strategy and stream that are named, {"strategy": name}, and of every run."""
    return [PROTOCOL, *(option.name for option in _options(named))]


def values_of(key: str, named: Mapping[str, str]) -> list[str]:
    """Return what is known of the values of a key; [] where anything may stand."""
    if key == PROTOCOL:
        return [*PROTOCOLS]
    if key == NETWORK:
        return [AUTO, *network_names()]
    kinds = {option.name: option.type for option in _options(named)}
    return ["true", "false"] if kinds.get(key, "").startswith("bool") else []


def _options(named: Mapping[str, str]) -> Iterator[Option]:
    """Yield options as their source states them; where it cannot tell, nothing: a shell does not wait for torch."""
    try:
        if "strategy" in named:
            yield from stated(strategy_source(named["strategy"]).inner("Config"), "strategy.")
    except NotConstant:
        pass
    try:
        if "stream" in named:
            yield from stream_card(named["stream"]).options
    except CLSuiteError:
        pass
    for name in groups():
        yield from group(name)[1]
    for name in evaluation_names():
        if settings := ENTRIES[name].settings_class:
            yield from stated(class_at(settings), f"{name}.")
