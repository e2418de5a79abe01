"""From a finished run to a saved model: everything it takes to answer, or to learn on, without the data it learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cl_suite.core.errors import UsageError
from cl_suite.core.registry import Chosen
from cl_suite.core.version import __version__
from cl_suite.data.descriptions import described
from cl_suite.networks.encoders import encoder_files, load_encoder
from cl_suite.records.provenance import without_machine
from cl_suite.runs.execute import Run
from cl_suite.runs.plan import Plan
from cl_suite.saved_models.file import write_model


class ModelKeeper:
    """Saves the model of each run beside its record: `seed_<n>.model.safetensors`."""

    def check(self, run: Run) -> None:
        """Before training: raise UsageError for a run whose model cannot be saved."""
        check_saveable(run)

    def keep(self, run: Run) -> None:
        """After training, before the record: save the model, unless the run has failed."""
        if run.error is None:
            save_model(run, run.plan.model_path)


def check_saveable(run: Run) -> None:
    """Raise UsageError, in one line, where a prepared run has something that cannot be saved."""
    strategy = run.harness.strategy
    if not strategy.resumable:
        raise UsageError(
            f"{run.plan.strategy.name} keeps a state that cannot be restored, so that its model cannot be saved. "
            "Leave --save-model out, or take another strategy."
        )
    _data_parts(run)


def save_model(run: Run, path: Path | str) -> Path:
    """Write what answers after the last experience of a finished run; return where it lies.

    Raise UsageError for a run that has not been trained to its end, for a part that cannot be saved, or where nothing
    can be written.
    """
    harness = run.harness
    stream, results = harness.scenario_stream, harness.results
    if run.error is not None or len(results.R) < stream.n_experiences:
        why = run.error or f"{len(results.R)} of {stream.n_experiences} experiences are learned"
        raise UsageError(f"there is no model to save: the run did not end ({why}). Train it first.")
    check_saveable(run)
    plan = run.plan
    model = plan.composed.run.model
    content = {
        "made_by": {"cl_suite": __version__, "torch": str(torch.__version__)},
        "strategy": _plugin(plan.strategy, plan.request.strategy)
        | {"options": plan.composed.plain["strategy"], "answers_logits": bool(harness.strategy.answers_logits())},
        "stream": _plugin(plan.stream, plan.request.stream) | {"version": plan.stream.cls.version},
        "scenario": plan.scenario.value,
        "seed": plan.request.seed,
        "seeds": dataclasses.asdict(plan.seeds),
        **_data_parts(run),
        "model": {
            "options": _without_places(plan),
            "digest": plan.network.digest or None,
            "weights": _kept_weights(plan),
            "files": None if model.encoder is None else encoder_files(load_encoder(model.encoder)),
            "tokenizer": plan.composed.run.text.tokenizer,
            "built": harness.models_built,
        },
        "config": plan.config,
        "run": {
            "config_hash": plan.record_path.parent.name,
            "experiences": len(results.R),
            "classes": sorted(stream.seen_after(len(results.R))),
            "R": results.R,
            "R_task_aware": results.R_task_aware,
            "curve": results.curve,
            "meter": harness.meter.state_dict(),
        },
        "state": harness.strategy.state_dict(),
    }
    return write_model(Path(path), content)


def _plugin(chosen: Chosen, spec: object) -> dict[str, Any]:
    """Return how a plugin is found again; of one from a file also what tells that it is the same."""
    return {
        "name": without_machine(chosen.name),
        "spec": without_machine(spec) if isinstance(spec, str) else without_machine(chosen.spec or chosen.name),
        "digest": chosen.digest if chosen.from_file else None,
    }


def _without_places(plan: Plan) -> dict[str, Any]:
    """Return the options of the network; of files their names, without a folder of this machine."""
    options = plan.composed.plain["model"]
    return {**options, "name": without_machine(options["name"]), "weights": None}


def _kept_weights(plan: Plan) -> dict[str, Any] | None:
    """Return what networks start from: a strategy may draw some of them anew when it is set up again."""
    if plan.weights is None:
        return None
    return {"name": plan.weights.name, "digest": plan.weights.digest, "tensors": plan.weights.tensors()}


def _data_parts(run: Run) -> dict[str, Any]:
    """Return what is kept of the data: its tasks, how samples are prepared, what a strategy was told of the stream."""
    stream, data = run.harness.scenario_stream, run.loaded.data
    info, name = stream.info, run.plan.stream.name
    tasks = [
        {
            "name": task.name,
            "classes": list(source.classes),
            "outputs": list(task.classes),
            "train": len(source.train),
            "test": task.count,
            "shape": described(stored.shape, name),
            "dtype": described(stored.dtype, name),
            "texts": stored.texts,
            "transform": described(stored.transform, f"the transform of {name}'s task {task.name!r}"),
            "digest": stored.digest,
        }
        for task, source, stored in zip(stream.tasks, data.tasks, run.loaded.stored, strict=True)
    ]
    return {
        "tasks": tasks,
        "columns": run.loaded.encoding.get("data", {}).get("columns"),  # of a table, in order; None = it was none
        "info": {
            "n_experiences": info.n_experiences,
            "input_shape": described(info.input_shape, name),
            "n_outputs": info.n_outputs,
            "objective": described(info.objective, f"the objective of {name}"),
            "prepare": described(info.prepare, f"the preparation of {name}"),
            "train": dataclasses.asdict(info.train),
            "task_classes": None if info.task_classes is None else [list(block) for block in info.task_classes],
            "planned_samples": info.planned_samples,
            "planned_steps": info.planned_steps,
            "card": {key: value for key, value in info.card.items() if _is_plain(value)},
            "vocabulary": info.vocabulary,
        },
        "encoders": [encoder.state_dict() for encoder in data.encoders],
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bool | int | float)
