"""From a saved model to what answers: the strategy is set up as it was, and its state put back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from omegaconf import OmegaConf

from cl_suite.core.checkpoint import tensor_bytes
from cl_suite.core.devices import choose_device, forked_rng
from cl_suite.core.errors import CLSuiteError, DataError, UsageError
from cl_suite.core.registry import STRATEGY, STREAM, Chosen, Kind, choose
from cl_suite.core.scenario import Scenario
from cl_suite.core.seeding import Seeds, seed_for
from cl_suite.core.strategy import Strategy
from cl_suite.core.types import StreamInfo, TrainSettings
from cl_suite.data.descriptions import OURS, classes_in, made_again
from cl_suite.data.tokenizers import write_files
from cl_suite.data.tokens import TOKENS, TokenEncoder
from cl_suite.features.frozen_networks import IMAGE_FEATURES, FrozenNetwork
from cl_suite.features.text_vectors import TEXT_FEATURES, TextVectors
from cl_suite.networks.choice import choose_network
from cl_suite.networks.origins import ChosenNetwork
from cl_suite.networks.weights import KeptWeights
from cl_suite.runs.config import ModelConfig
from cl_suite.runs.harness import ModelFactory
from cl_suite.runs.networks import network_factory
from cl_suite.saved_models.file import FORMAT_VERSION, read_model
from cl_suite.saved_models.predictor import SavedPredictor, SavedTask

# By the kind in its state: what makes an encoder of samples again.
ENCODERS: dict[str, Any] = {TOKENS: TokenEncoder, IMAGE_FEATURES: FrozenNetwork, TEXT_FEATURES: TextVectors}


def load_predictor(
    path: Path | str,
    device: str = "cpu",
    *,
    strategy: str | type | None = None,
    stream: str | type | None = None,
    network: str | None = None,
) -> SavedPredictor:
    """Return what answers as the run did at its end; the data is not needed.

    path:     a file that `--save-model` wrote, `seed_<n>.model.safetensors`
    device:   where it answers: cpu, cuda, cuda:1, auto
    strategy: where the strategy's file or class is now, if it came from a file that has moved
    stream:   likewise of the stream, whose own preparation may be needed
    network:  likewise of the network

    Raise DataError for a file that is damaged, or of another format version; UsageError for a plugin that is not
    there, or whose file has changed.
    """
    place = Path(path)
    content = read_model(place)
    try:
        return _predictor(content, place, device, strategy=strategy, stream=stream, network=network)
    except CLSuiteError:
        raise
    except Exception as problem:  # of a foreign file: whatever it lacks or has in another shape
        reason = str(problem).partition("\n")[0]
        raise DataError(
            f"saved model {place} does not fit this cl-suite ({type(problem).__name__}: {reason}). "
            f"It was saved with cl-suite {content['made_by'].get('cl_suite')}: use that, or train it anew."
        ) from problem


def _predictor(
    content: dict[str, Any],
    path: Path,
    device: str,
    *,
    strategy: str | type | None,
    stream: str | type | None,
    network: str | None,
) -> SavedPredictor:
    on = choose_device(device)
    chosen = found_plugin(STRATEGY, content["strategy"], strategy, path)
    packages = _packages(content, stream, path)
    info = info_of(content, device=on, packages=packages)
    files = TemporaryDirectory() if content["model"]["files"] else None
    network_of = found_network(content["model"], network, path)
    learner = strategy_with_state(content, chosen, info, network_of, Path(files.name) if files else None)
    tasks = tuple(
        SavedTask(
            index=number,
            name=task["name"],
            classes=tuple(task["classes"]),
            outputs=tuple(task["outputs"]),
            shape=made_again(task["shape"]),
            dtype=made_again(task["dtype"]),
            texts=task["texts"],
            transform=_on(made_again(task["transform"], packages=packages), on),
        )
        for number, task in enumerate(content["tasks"])
    )
    encoders = [ENCODERS[state["kind"]].from_state(state) for state in content["encoders"]]
    facts = {
        "format_version": FORMAT_VERSION,
        **content["made_by"],
        "strategy": content["strategy"]["name"],
        "options": content["strategy"]["options"],
        "stream": content["stream"]["name"],
        "scenario": content["scenario"],
        "seed": content["seed"],
        "config_hash": content["run"]["config_hash"],
        "input_shape": info.input_shape,
        "columns": content.get("columns"),
        "state_bytes": tensor_bytes(content["state"]),
    }
    return SavedPredictor(
        learner,
        info,
        tasks,
        so_far=frozenset(content["run"]["classes"]),
        encoders=[_on(encoder, on) for encoder in encoders],
        facts=facts,
        files=files,
    )


def found_plugin(kind: Kind, saved: Mapping[str, Any], given: str | type | None, path: Path) -> Chosen:
    """Return the plugin a model was made with. Raise UsageError where it is not there or not the same any more."""
    if given is not None and not isinstance(given, str):
        return Chosen(saved["name"], given)
    spec = given or saved["spec"]
    again = f"Give it with --{kind.word} (in Python {kind.word}=...), as path/to/file.py:Class"
    try:
        chosen = choose(kind, spec)
    except UsageError as problem:
        if saved["digest"] is None and given is None:
            raise UsageError(f"saved model {path} needs the {kind.word} {saved['name']}: {problem}") from problem
        raise UsageError(
            f"saved model {path} was made with {kind.word} {saved['spec']}, which cannot be loaded here "
            f"({str(problem).partition('. ')[0]}). {again}."
        ) from problem
    if saved["digest"] is not None and chosen.digest != saved["digest"]:
        raise UsageError(
            f"saved model {path} was made with {kind.word} {saved['spec']}, and that file has changed since "
            f"({chosen.digest}, then {saved['digest']}). {again}, as it was."
        )
    return chosen


def found_network(saved: Mapping[str, Any], given: str | None, path: Path) -> ChosenNetwork:
    """Return the network a model was made with. Raise UsageError where it is not there or not the same any more."""
    spec = given or saved["options"]["name"]
    again = "Give it with --network (in Python network=...), as path/to/net.py:Net"
    try:
        chosen = choose_network(spec)
    except UsageError as problem:
        reason = str(problem).partition(". ")[0]
        raise UsageError(f"saved model {path} needs the network {spec} ({reason}). {again}.") from problem
    if saved["digest"] is not None and chosen.digest != saved["digest"]:
        raise UsageError(
            f"saved model {path} was made with the network {spec}, and that file has changed since. {again}, as it was."
        )
    return chosen


def _weights(saved: Mapping[str, Any]) -> KeptWeights | None:
    kept = saved["weights"]
    return None if kept is None else KeptWeights(kept["name"], kept["digest"], kept["tensors"])


def info_of(content: Mapping[str, Any], *, device: torch.device, packages: frozenset[str]) -> StreamInfo:
    """Return what the strategy was told of its stream."""
    saved = content["info"]
    train = {each.name for each in dataclasses.fields(TrainSettings)}
    blocks = saved["task_classes"]
    return StreamInfo(
        stream=content["stream"]["name"],
        scenario=Scenario(content["scenario"]),
        n_experiences=saved["n_experiences"],
        input_shape=made_again(saved["input_shape"]),
        n_outputs=saved["n_outputs"],
        objective=made_again(saved["objective"], packages=packages),
        prepare=made_again(saved["prepare"], packages=packages),
        train=TrainSettings(**{name: value for name, value in saved["train"].items() if name in train}),
        seeds=Seeds(**content["seeds"]),
        device=device,
        task_classes=None if blocks is None else tuple(map(tuple, blocks)),
        planned_samples=saved["planned_samples"],
        planned_steps=saved["planned_steps"],
        card=saved["card"],
        vocabulary=saved["vocabulary"],
    )


def strategy_with_state(
    content: Mapping[str, Any], chosen: Chosen, info: StreamInfo, of: ChosenNetwork, files: Path | None
) -> Strategy:
    """Return the strategy as it was when its run ended. files: an empty folder for an encoder's files, if it has any"""
    options = content["strategy"]["options"]
    config: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(chosen.cls.config_for(options)), options))
    strategy: Strategy = chosen.cls(config)
    model = content["model"]
    known = {each.name for each in dataclasses.fields(ModelConfig)}
    network = ModelConfig(**{name: value for name, value in model["options"].items() if name in known})
    tokenizer = model["tokenizer"]
    if files is not None:
        network.encoder = tokenizer = str(write_files(model["files"], files))
    factory = ModelFactory(
        network_factory(of, network, info, tokenizer=tokenizer, offline=True, weights=_weights(model)),
        info.seeds.model,
        info.device,
    )
    with forked_rng(info.device):
        torch.manual_seed(seed_for(info.seeds.model, "setup"))
        strategy.setup(info, factory)
        strategy.load_state_dict(content["state"])
    return strategy


def _packages(content: Mapping[str, Any], given: str | type | None, path: Path) -> frozenset[str]:
    """Return the packages whose preparations may be made again; the stream is loaded where it has some of its own."""
    info = content["info"]
    parts = [info["objective"], info["prepare"], *(task["transform"] for task in content["tasks"])]
    others = {name.partition(".")[0] for name in classes_in(parts)} - {OURS}
    if not others:
        return frozenset({OURS})
    stream = found_plugin(STREAM, content["stream"], given, path)
    return frozenset({OURS, stream.cls.__module__.partition(".")[0]})


def _on(part: Any, device: torch.device) -> Any:
    """Return a transform or encoder on a device, where it has something to move."""
    return part.to(device) if hasattr(part, "to") else part
