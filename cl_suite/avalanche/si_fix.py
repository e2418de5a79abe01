"""Where the current release does not do what it says, and how that is mended. Imports Avalanche.

Avalanche 0.6.0, synaptic intelligence: weights are kept as `param.detach().cpu().flatten()`, which on a CPU is the
weights themselves and no copy. What is kept moves along with what is trained, and the penalty is 0 throughout.
"""

from __future__ import annotations

from typing import Any

from avalanche.training.plugins import SupervisedPlugin


class KeptCopies(SupervisedPlugin):
    """After the plugin of synaptic intelligence: makes copies of what it keeps, as it does by itself on a GPU."""

    def __init__(self, plugin: Any) -> None:
        super().__init__()
        self._plugin = plugin

    def _copy(self, *stores: Any) -> None:
        for store in stores:
            for entry in store.values():
                entry.data = entry.data.clone()

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """The weights at the beginning of the experience."""
        self._copy(self._plugin.ewc_data[0])

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """The weights before the step."""
        self._copy(self._plugin.syn_data["old_theta"])

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """The weights that are held to from now on."""
        self._copy(self._plugin.ewc_data[0], self._plugin.syn_data["new_theta"])
