"""What a run that has just ended answers, without a saved model: through the same door as one that is loaded."""

from __future__ import annotations

from cl_suite.runs.execute import Run
from cl_suite.saved_models.predictor import SavedPredictor, SavedTask


def live_predictor(run: Run) -> SavedPredictor:
    """Return what the strategy of a finished run answers; valid as long as it learns nothing more."""
    stream, data, plan = run.harness.scenario_stream, run.loaded.data, run.plan
    tasks = tuple(
        SavedTask(
            index=task.index,
            name=task.name,
            classes=tuple(source.classes),
            outputs=tuple(task.classes),
            shape=stored.shape,
            dtype=stored.dtype,
            texts=stored.texts,
            transform=None if stored.transform is None else stored.transform.to(stream.info.device),
        )
        for task, source, stored in zip(stream.tasks, data.tasks, run.loaded.stored, strict=True)
    )
    facts = {
        "strategy": plan.strategy.name,
        "options": plan.composed.plain["strategy"],
        "stream": plan.stream.name,
        "scenario": plan.scenario.value,
        "seed": plan.request.seed,
        "config_hash": plan.record_path.parent.name,
    }
    return SavedPredictor(
        run.harness.strategy,
        stream.info,
        tasks,
        so_far=stream.seen_after(len(run.harness.results.R)),
        encoders=data.encoders,
        facts=facts,
    )
