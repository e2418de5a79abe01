"""Runs whose models are saved: trained in this process, so that what they answer at their end can be asked as well."""

from pathlib import Path

import torch

from cl_suite.core.data_root import DataRoot
from cl_suite.core.errors import UnseenTask
from cl_suite.core.scenario_stream import EVALUATION_BATCH
from cl_suite.core.seeding import Seeds
from cl_suite.core.types import map_inputs
from cl_suite.data.texts import PrepareTexts, decode_texts
from cl_suite.runs.execute import Run
from cl_suite.runs.load import first_tasks
from cl_suite.runs.plan import Request, plan


def request(folder, strategy, stream, *overrides, root=None, **options):
    """Return a request whose records go below `folder`."""
    data_root = DataRoot(root or Path("unused"), offline=True)
    return Request(strategy, stream, Path(folder), data_root, device="cpu", overrides=overrides, **options)


def trained(folder, strategy, stream, *overrides, **options):
    """Return the finished run of a request; nothing is recorded yet."""
    run = Run(plan(request(folder, strategy, stream, *overrides, **options)))
    run.prepare()
    run.train()
    assert run.error is None, run.error
    return run


def stored_tests(run):
    """Return the test samples of each task as the stream stores them, before anything is made of them; of texts a list.

    The stream is read once more, as its own code gives it: what a saved model is handed by its user.
    """
    asked = run.plan
    stream = asked.stream.cls(asked.composed.run.stream)
    seeds = Seeds(asked.seeds.model, asked.seeds.data, asked.seeds.classes)
    source = first_tasks(stream.load(asked.request.data_root, seeds), asked.composed.run.schedule.stop_after)
    found = []
    for task in source.tasks:
        rows = torch.arange(len(task.test)) if task.test.index is None else task.test.index
        raw = map_inputs(lambda value, rows=rows: value[rows], task.test.inputs)
        found.append(decode_texts(raw) if isinstance(source.prepare, PrepareTexts) else raw)
    return found


def live_answers(run, task, preference=None):
    """Return the logits of a run that has just ended on a task's test samples, batch by batch; None = no answer."""
    strategy = run.harness.strategy
    try:
        predictor = task.predictor_of(strategy) if preference is None else strategy.predictor_for(preference)
    except UnseenTask:
        return None
    with torch.no_grad():
        return torch.cat([predictor(task.prepare(raw)) for raw, _ in task.test.chunks(EVALUATION_BATCH)])
