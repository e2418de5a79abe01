"""The public API for Avalanche, both ways: its strategies and benchmarks here, our streams there."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "adapter": ["avalanche_strategy"],
    "export": ["matrix_from_avalanche", "to_avalanche"],
    "presence": ["has_avalanche", "need_avalanche"],
    "recipe": ["TOLD_BOUNDARIES", "AvalancheRecipe"],
    "source": ["AvalancheSource"],
    "streams": ["avalanche_stream"],
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


if TYPE_CHECKING:
    from cl_suite.avalanche.adapter import avalanche_strategy
    from cl_suite.avalanche.export import matrix_from_avalanche, to_avalanche
    from cl_suite.avalanche.presence import has_avalanche, need_avalanche
    from cl_suite.avalanche.recipe import TOLD_BOUNDARIES, AvalancheRecipe
    from cl_suite.avalanche.source import AvalancheSource
    from cl_suite.avalanche.streams import avalanche_stream
