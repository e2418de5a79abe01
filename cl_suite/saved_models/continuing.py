"""From a record with a saved model to what a longer run goes on from: `--continue-from`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl_suite.core.errors import UsageError
from cl_suite.core.files import sha256_of
from cl_suite.data.descriptions import described, made_again, same
from cl_suite.records.compatibility import without_unchanged
from cl_suite.records.record import NOT_HASHED, load_record
from cl_suite.runs.beginning import Beginning
from cl_suite.runs.harness import Harness
from cl_suite.runs.load import Loaded
from cl_suite.runs.plan import Plan
from cl_suite.saved_models.file import read_model
from cl_suite.saved_models.growth import Growth, grown, named_tensors

FLAG = "--continue-from"


def beginning_of(record: Path, *, seed: int) -> Beginning:
    """Return the end of a recorded run whose model was saved.

    record: `.../seed_<n>.json`, or the folder it lies in: then that of `seed`

    Raise UsageError where there is no such record, or no saved model of it beside it.
    """
    path = record / f"seed_{seed}.json" if record.is_dir() else record
    earlier = load_record(path)
    if earlier.status != "complete":
        raise UsageError(f"{FLAG}: {path} is of a run that failed. Name one that is complete.")
    if earlier.seed != seed:
        raise UsageError(f"{FLAG}: {path} is of seed {earlier.seed}, and this run of seed {seed}. Use --seed.")
    model = path.with_suffix(".model.safetensors")
    if not model.exists():
        raise UsageError(
            f"{FLAG}: there is no {model.name} beside {path.name}: the run did not keep its model. Repeat it with "
            "--save-model --overwrite."
        )
    content = read_model(model)
    run = content["run"]
    if run["config_hash"] != earlier.config_hash or run["R"] != earlier.R or content["seed"] != earlier.seed:
        raise UsageError(f"{FLAG}: {model} is not of the run that {path.name} records. Repeat it with --save-model.")
    begun = {"config": earlier.config_hash, "experiences": len(earlier.R)}
    return Beginning(
        identity={
            **begun,
            "strategy": earlier.strategy,
            "stream": earlier.stream,
            "scenario": earlier.scenario,
            "seed": earlier.seed,
            "tasks": list(earlier.task_names),
            "sha256": sha256_of(path),
            "commit": earlier.provenance.get("git_commit"),
        },
        configuration={"continued_from": begun},
        experiences=len(earlier.R),
        R=earlier.R,
        R_task_aware=earlier.R_task_aware,
        curve=earlier.curve,
        meter=run["meter"],
        peak_memory_bytes=earlier.costs.get("peak_memory_bytes") or 0,
        models_built=content["model"]["built"],
        fits=_Check(content, path),
        state=_State(content),
    )


@dataclass(frozen=True)
class _Check:
    """Whether a plan and its data begin as the earlier run did."""

    content: Mapping[str, Any]
    path: Path

    def __call__(self, plan: Plan, loaded: Loaded) -> None:
        """Raise UsageError, in one line, for the first thing that differs."""
        saved = self.content
        for what, then, now in (
            ("strategy", saved["strategy"]["name"], plan.strategy.name),
            ("stream", saved["stream"]["name"], plan.stream.name),
            ("version of the stream", saved["stream"]["version"], plan.stream.cls.version),
            ("scenario", saved["scenario"], plan.scenario.value),
        ):
            if then != now:
                raise self._differs(what, then, now)
        then, now = (_options(config) for config in (saved["config"], plan.config))
        for name in sorted(then.keys() | now.keys()):
            if then.get(name) != now.get(name):
                raise self._differs(name, then.get(name), now.get(name))
        tasks, known = loaded.data.tasks, saved["tasks"]
        if len(tasks) <= len(known):
            raise UsageError(
                f"{FLAG}: the stream has {len(tasks)} tasks, and {self.path.name} learned {len(known)} already. "
                "Give it more, e.g. with stream.n_tasks or schedule.stop_after."
            )
        for number, (before, task, stored) in enumerate(zip(known, tasks, loaded.stored, strict=False)):
            here = {
                "name": task.name,
                "classes": list(task.classes),
                "train": len(task.train),
                "test": len(task.test) if task.scorer is None else task.scorer.count,
                "transform": described(stored.transform, "a transform"),
                "digest": stored.digest,
            }
            for part, value in here.items():
                if not same(before[part], value):
                    what = {"train": "training samples", "test": "test samples", "digest": "digest"}.get(part, part)
                    raise self._differs(f"{what} of task {number}", before[part], value)

    def _differs(self, what: str, then: Any, now: Any) -> UsageError:
        return UsageError(
            f"{FLAG}: the {what} of {self.path.name} was {_short(then)}, and is {_short(now)} here. "
            "Go on with what was, or train from the beginning."
        )


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that must not have changed: all but those of the stream, whose tasks are compared."""
    flat: dict[str, Any] = {}
    for group, options in without_unchanged(config).items():
        if group in ("stream", "schedule", "continued_from", *NOT_HASHED):
            continue
        if isinstance(options, Mapping):
            flat |= {f"{group}.{name}": value for name, value in options.items()}
        else:
            flat[group] = options
    return flat


@dataclass(frozen=True)
class _State:
    """The earlier state in the sizes of the longer stream."""

    content: Mapping[str, Any]

    def __call__(self, harness: Harness) -> dict[str, Any]:
        """Return it. Raise UsageError where it has no form there."""
        saved, info = self.content["info"], harness.scenario_stream.info
        network = harness.strategy.trained_network()
        before = dict(named_tensors(self.content["state"]))
        shapes = [info.input_shape, *(made_again(task["shape"]) for task in self.content["tasks"])]
        growth = Growth(
            outputs=(saved["n_outputs"], info.n_outputs),
            tasks=(saved["n_experiences"], info.n_experiences),
            parameters=None
            if network is None
            else sum(before.get(name, value).numel() for name, value in network.named_parameters()),
            samples=frozenset(shape for shape in shapes if isinstance(shape, tuple)),
        )
        state: dict[str, Any] = grown(self.content["state"], harness.strategy.state_dict(), growth)
        return state


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
