"""From a plan to a record on disk: load, run, save. Used by the command line and by tests."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from cl_suite.core.devices import set_threads
from cl_suite.core.errors import CLSuiteError, PluginError, RunError, UsageError
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.core.strategy import Strategy
from cl_suite.core.version import __version__
from cl_suite.evaluation.calibration import CalibrationEvaluation
from cl_suite.evaluation.learning_curve import LearningPoints
from cl_suite.evaluation.module_report import MODULES, ModuleReport
from cl_suite.evaluation.open_set import OpenSetEvaluation
from cl_suite.evaluation.preferences.evaluation import PreferenceEvaluation
from cl_suite.evaluation.protocol import Evaluation
from cl_suite.loggers.following import Both, CurveFollower
from cl_suite.metrics.matrix import summarise
from cl_suite.metrics.task_shifts import detection_figures
from cl_suite.networks.encoders import check_encoder
from cl_suite.networks.network import build_network
from cl_suite.records.provenance import code_state
from cl_suite.records.record import RunRecord, load_record, parse_record, provenance, save_record
from cl_suite.robots.film import VIDEO, check_films, film_tasks
from cl_suite.run.display import RunDisplay, console_for
from cl_suite.run.harness import Harness
from cl_suite.run.load import Loaded, load_stream
from cl_suite.run.logged_run import logged_run
from cl_suite.run.plan import Plan

DETECTION = (
    "missed_shifts",
    "false_alarms",
    "detection_delay",
    "experts",
    "reuse",
)  # in tables


@dataclass(frozen=True)
class Outcome:
    """A record and where it lies."""

    record: RunRecord
    path: Path


def run_all(plans: Sequence[Plan], *, quiet: bool = False, debug: bool = False) -> list[Outcome]:
    """Run every plan, one after another; finished ones are read from disk unless they are to be overwritten."""
    console = console_for(quiet=quiet)
    outcomes = []
    for each in plans:
        previous = _finished(each)
        if previous is not None and not each.request.overwrite:
            lacks = [name for name in each.request.diagnostics if name not in previous.diagnostics]
            without = f", without --diagnostics {' '.join(lacks)}" if lacks else ""
            console.print(f"seed {each.request.seed}: already finished{without}; --overwrite runs it again.")
            outcomes.append(Outcome(previous, each.record_path))
            continue
        console.print(_headline(each))
        outcomes.append(run_one(each, console=console, debug=debug))
    return outcomes


def run_one(each: Plan, *, console: Any = None, debug: bool = False) -> Outcome:
    """Run one plan and save its record, also if it fails. Raise UsageError where the data or the network do not fit.

    An interruption leaves the checkpoint behind, and the same request goes on from it.
    """
    console = console or console_for(quiet=True)
    code_state()  # as it is now: a checkout may move on while a run lasts
    started = datetime.now(UTC)
    threads = set_threads(each.request.threads)
    stream = each.stream.cls(each.composed.run.stream)
    loaded = load_stream(stream, each.composed.run, root=each.request.data_root, seeds=each.seeds, device=each.device)
    for remark in loaded.remarks:
        console.print(remark)
    scenario_stream = ScenarioStream(
        each.stream.name,
        loaded.data,
        each.scenario,
        train=each.composed.run.train,
        seeds=each.seeds,
        device=each.device,
        card=loaded.card,
        schedule=each.composed.run.schedule,
    )
    if VIDEO in each.request.diagnostics:
        check_films(scenario_stream.tasks, each.stream.name)
    # The first optimiser of a process makes torch load its compiler, for seconds that are not the strategy's.
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    strategy, expected = _constructed(each, scenario_stream)
    display = RunDisplay(
        console,
        n_experiences=scenario_stream.n_experiences,
        expected_samples=expected,
    )
    logs = CurveFollower(
        each.request.log,
        logged_run(each, tasks=[task.name for task in scenario_stream.tasks]),
        console=console,
        show=debug,
    )
    harness = Harness(
        strategy,
        scenario_stream,
        _model_builder(each, scenario_stream),
        listener=Both(display, logs) if each.request.log else display,
        checkpoint=each.checkpoint,
        fingerprint=_fingerprint(each),
        report=ModuleReport() if MODULES in each.request.diagnostics else None,
        evaluations=_evaluations(each, strategy, scenario_stream),
    )
    logs.follow(harness)
    error = None
    with display, logs:
        try:
            harness.run(resume=each.request.resume)
        except UsageError:
            raise
        except Exception as problem:  # a stranger's method may raise anything; it is recorded as a failed run
            if debug:
                traceback.print_exc()
            error = _one_line(problem)
    try:
        record = _record(each, harness, error, loaded, started, threads)
        parse_record(record.to_json())  # what is written can be read again
    except Exception as problem:  # e.g. diagnostics that JSON cannot keep: the run failed, and says so
        if error is not None:
            raise
        record = _record(each, harness, _one_line(problem), loaded, started, threads)
    path = save_record(record, each.record_path)
    if record.status == "complete":
        each.checkpoint.unlink(missing_ok=True)
    logs.finish(record)
    return Outcome(record, path)


def _constructed(each: Plan, scenario_stream: ScenarioStream) -> tuple[Strategy, int]:
    """Return the strategy and the samples it expects to draw. Raise PluginError if it cannot even be made."""
    try:
        strategy: Strategy = each.strategy.cls(each.composed.run.strategy)
        return strategy, int(strategy.expected_samples(scenario_stream.info))
    except CLSuiteError:
        raise
    except Exception as problem:  # a stranger's constructor may raise anything
        raise PluginError(f"{each.strategy.name} could not be made: {_one_line(problem)}. Mend it.") from problem


def _evaluations(each: Plan, strategy: Strategy, scenario_stream: ScenarioStream) -> dict[str, Evaluation]:
    """Return what else is asked after each experience, by the name of its group of options."""
    asked, found = each.composed.run, dict[str, Evaluation]()
    if asked.preferences.evaluate:
        found["preferences"] = PreferenceEvaluation(asked.preferences, strategy, scenario_stream)
    if asked.open_set.evaluate:
        found["open_set"] = OpenSetEvaluation(strategy, scenario_stream)
    if asked.learning.evaluate:
        found["learning"] = LearningPoints(asked.learning, strategy, scenario_stream)
    if asked.calibration.evaluate:
        found["calibration"] = CalibrationEvaluation(asked.calibration, strategy, scenario_stream)
    return found


def _model_builder(each: Plan, scenario_stream: ScenarioStream) -> Callable[[], torch.nn.Module]:
    model, info = each.composed.run.model, scenario_stream.info
    shape: Any = info.input_shape
    options: dict[str, Any] = {
        "future": model.future,
        "width": model.width,
        "hidden": None if model.hidden is None else tuple(model.hidden),
        "dimensions": model.dimensions,
        "frozen_embeddings": model.frozen_embeddings or None,
        "encoder": model.encoder,
        "vision": model.vision,
    }
    if isinstance(shape, Mapping):
        options["vocabulary"] = info.vocabulary  # of token ids; None for dictionaries of something else

    if model.encoder is not None and info.vocabulary is not None:
        check_encoder(
            model.encoder,
            tokenizer=each.composed.run.text.tokenizer,
            length=shape["tokens"][0],
            offline=each.request.data_root.offline,
        )

    def build() -> torch.nn.Module:
        return build_network(model.name, shape, info.n_outputs, **options)

    build()  # refuse an unfit network before anything is trained
    return build


def _finished(each: Plan) -> RunRecord | None:
    if not each.record_path.exists():
        return None
    record = load_record(each.record_path)
    return record if record.status == "complete" else None


def _headline(each: Plan) -> str:
    train = each.composed.run.train
    return (
        f"{each.strategy.name} on {each.stream.name}, {each.scenario}, seed {each.request.seed}, "
        f"protocol {each.composed.run.protocol} ({train.epochs} epochs, batch {train.batch_size}), on {each.device}"
    )


def _fingerprint(each: Plan) -> str:
    """Return what must be equal for a checkpoint to be continued: code, configuration, seed."""
    versions = [__version__, torch.__version__, each.strategy.digest]
    return " ".join([*versions, each.record_path.parent.name, each.record_path.stem, *each.request.diagnostics])


def _one_line(problem: BaseException) -> str:
    """Return an error as one line; for one not raised on purpose, with the place it came from."""
    text = str(problem).partition("\n")[0]
    if isinstance(problem, RunError):
        return text
    frame = traceback.extract_tb(problem.__traceback__)[-1]
    return f"{type(problem).__name__}: {text} ({Path(frame.filename).name}, line {frame.lineno})"


def _record(
    each: Plan,
    harness: Harness,
    error: str | None,
    loaded: Loaded,
    started: datetime,
    threads: int,
) -> RunRecord:
    results, scenario_stream = harness.results, harness.scenario_stream
    counts = harness.test_samples()
    metrics = (
        summarise(
            results.R,
            results.baseline,
            counts,
            results.curve,
            R_task_aware=results.R_task_aware,
            rows_are_tasks=scenario_stream.has_boundaries,
            begun=None
            if scenario_stream.has_boundaries
            else [scenario_stream.begun(row) for row in range(len(results.R))],
        )
        | _found(harness)
        | {name: value for more in harness.evaluations.values() for name, value in more.metrics(results.R).items()}
        if results.R and error is None
        else {}
    )
    return RunRecord(
        status="complete" if error is None else "failed",
        error=error,
        strategy=each.strategy.name,
        stream=each.stream.name,
        scenario=each.scenario.value,
        protocol=each.composed.run.protocol,
        seed=each.request.seed,
        seeds={"model": each.seeds.model, "data": each.seeds.data, "classes": each.seeds.classes},
        config=each.config,
        R=results.R,
        R_task_aware=results.R_task_aware,
        baseline=results.baseline,
        test_samples=counts,
        task_names=[task.name for task in scenario_stream.tasks],
        curve=results.curve,
        metrics=metrics,
        costs=harness.costs() if error is None else harness.counted(),
        model_selection=_selection(each, harness) if error is None else "none",
        diagnostics=_diagnostics(each, harness, loaded.made) if error is None else {},
        provenance=provenance(
            each.request.command,
            torch_version=torch.__version__,
            device=_device_name(each.device),
            threads=threads,
            stream_version=each.stream.cls.version,
            data_checksums=loaded.data.checksums,
            started=started,
        ),
    )


def _selection(each: Plan, harness: Harness) -> str:
    """Return what models were chosen by: "none", "validation", or "oracle" where test scores chose."""
    return "oracle" if each.composed.run.learning.keep_best else harness.strategy.model_selection()


def _found(harness: Harness) -> dict[str, float | None]:
    """Return the metrics of a run that found its own tasks; none of any other."""
    facts = harness.results.detection
    return {
        **{name: float(facts[name]) for name in DETECTION if facts.get(name) is not None},
        **harness.results.routing,
    }


def _diagnostics(each: Plan, harness: Harness, made: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the strategy's own facts, its state in parts, what the samples were made into, and --diagnostics."""
    facts = {"state_bytes": harness.state_bytes(), **harness.strategy.diagnostics(), **made}
    if harness.results.detection:
        figures = detection_figures(harness.scenario_stream.visits, harness.results.seen)
        facts |= {"detection": harness.results.detection, "figures": {**facts.get("figures", {}), **figures}}
    facts |= {name: more.record() for name, more in harness.evaluations.items()}
    if VIDEO in each.request.diagnostics:
        facts[VIDEO] = film_tasks(harness.scenario_stream.tasks, harness.predictor_of, each.record_path)
    if harness.report is not None:
        told = harness.report.record([task.name for task in harness.scenario_stream.tasks])
        facts |= {MODULES: told["facts"], "figures": {**facts.get("figures", {}), **told["figures"]}}
    return facts


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
