"""Choose a network by name: one of this package, of another library, or of one's own."""

from __future__ import annotations

from cl_suite.networks.built_in import built_in
from cl_suite.networks.libraries import LIBRARIES
from cl_suite.networks.origins import ChosenNetwork
from cl_suite.networks.own_networks import own_network


def choose_network(name: str) -> ChosenNetwork:
    """Return the network that `model.name` means: a backbone's name, `path/to/net.py:Net`, `module:Net`, `timm:NAME`.

    Nothing is made yet. Raise UsageError for an unknown name, PluginError for a file that cannot be used.
    """
    library, colon, rest = name.partition(":")
    if colon and library in LIBRARIES:
        return LIBRARIES[library](rest)
    return own_network(name) if comes_from_elsewhere(name) else built_in(name)


def comes_from_elsewhere(name: str) -> bool:
    """Whether a name is none of this package's networks, by its form: it has a colon, or is a Python file."""
    return ":" in name or ".py" in name
