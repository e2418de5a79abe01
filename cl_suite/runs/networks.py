"""The networks of a run: made, filled with the weights they start from, tried on two samples before any training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from cl_suite.core.devices import forked_rng
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.core.seeding import seed_for
from cl_suite.core.types import StreamInfo
from cl_suite.networks.encoders import check_encoder
from cl_suite.networks.network import Network, build_network
from cl_suite.networks.origins import ChosenNetwork, Wanted
from cl_suite.networks.trial import check_in_training, checked_features
from cl_suite.networks.weights import Filled, Weights, fill
from cl_suite.runs.config import ModelConfig
from cl_suite.runs.plan import Plan


def network_factory_of(plan: Plan, scenario_stream: ScenarioStream) -> NetworkFactory:
    """Return what makes a fresh network. Raise UsageError if it does not fit the stream; one is made to see."""
    run = plan.composed.run
    return network_factory(
        plan.network,
        run.model,
        scenario_stream.info,
        tokenizer=run.text.tokenizer,
        offline=plan.request.data_root.offline,
        weights=plan.weights,
    )


def network_factory(
    chosen: ChosenNetwork,
    model: ModelConfig,
    info: StreamInfo,
    *,
    tokenizer: str,
    offline: bool,
    weights: Weights | None,
) -> NetworkFactory:
    """Return what makes a fresh network of these options for such a stream.

    tokenizer: what made the token ids, where there are some; offline: whether nothing may be downloaded

    Raise UsageError if it does not fit the stream; one is made to see.
    """
    shape: Any = info.input_shape
    if model.encoder is not None and info.vocabulary is not None:
        check_encoder(
            model.encoder,
            tokenizer=tokenizer,
            length=shape["tokens"][0],
            offline=offline,
        )
    # Token ids have a vocabulary; other dictionaries have none.
    wanted = Wanted(shape, info.n_outputs, info.vocabulary if isinstance(shape, Mapping) else None)
    return NetworkFactory(chosen, model, wanted, weights=weights, seed=info.seeds.model)


class NetworkFactory:
    """Makes the networks of one run, each with the same weights to start from where there are any.

    remarks: on what came of a network from elsewhere and of a file of weights, for the user
    facts:   the same for the record, below `network`; empty for a network of this package as initialised
    """

    def __init__(
        self, chosen: ChosenNetwork, model: ModelConfig, wanted: Wanted, *, weights: Weights | None, seed: int
    ) -> None:
        """Make one and try it. Raise UsageError, DataError or PluginError, in one line, for what does not fit."""
        self._chosen, self._model, self._wanted = chosen, model, wanted
        self._tensors = None if weights is None else weights.tensors()
        self._file = "" if weights is None else weights.name
        self._filled: Filled | None = None
        self.remarks: list[str] = []
        self.facts: dict[str, Any] = {}
        with forked_rng():
            torch.manual_seed(seed_for(seed, "network", 0))
            network = self()
        if chosen.shipped and weights is None:
            return
        samples = wanted.samples()
        with forked_rng():
            network.eval()
            checked_features(network.backbone, samples, chosen.name)
        if not chosen.shipped:
            check_in_training(network.backbone, samples, chosen.name)
        self._describe(network.backbone, weights)

    def __call__(self) -> Network:
        """Return the next network."""
        model = self._model
        network = build_network(
            self._chosen,
            self._wanted.input_shape,
            self._wanted.n_outputs,
            vocabulary=self._wanted.vocabulary,
            future=model.future,
            extra=model.options,
            **model.of_the_network(),
        )
        if self._tensors is not None:
            self._filled = fill(network.backbone, self._tensors, file=self._file, name=self._chosen.name)
        return network

    def _describe(self, backbone: Any, weights: Weights | None) -> None:
        facts: dict[str, Any] = {"name": self._chosen.name, "features": backbone.feature_dim}
        if not self._chosen.shipped:
            facts |= {
                "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
                "head_input": backbone.head_input,
                "left_out": list(backbone.left_out),
            }
            left_out = f"; left out: {', '.join(backbone.left_out)}" if backbone.left_out else ""
            self.remarks.append(
                f"{self._chosen.name}: {facts['parameters']:,} parameters; the head reads its {backbone.head_input}, "
                f"{backbone.feature_dim} numbers{left_out}."
            )
        if weights is not None and self._filled is not None:
            others = self._filled.left_out
            facts["weights"] = {
                "file": self._file,
                "sha256": weights.digest,
                "tensors": self._filled.tensors,
                "left_out": list(others),
            }
            more = f", ... ({len(others)})" if len(others) > 3 else ""
            left_out = f"; left out: {', '.join(others[:3])}{more}" if others else ""
            self.remarks.append(
                f"{self._chosen.name} starts from {self._file}: {self._filled.tensors} tensors{left_out}."
            )
        self.facts = {"network": facts}
