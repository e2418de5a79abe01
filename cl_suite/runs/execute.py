"""From a plan to a record on disk: prepare, train, record. Used by the command line and by tests."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch

from cl_suite.core.devices import set_threads
from cl_suite.core.errors import UsageError
from cl_suite.core.version import __version__
from cl_suite.loggers.following import Both, CurveFollower
from cl_suite.metrics.matrix import summarise
from cl_suite.records.provenance import code_state
from cl_suite.records.record import RunRecord, load_record, parse_record, provenance, save_record
from cl_suite.runs.build import evaluations_of, one_line, scenario_stream_of, strategy_of
from cl_suite.runs.display import RunDisplay, console_for
from cl_suite.runs.embedded import undisturbed
from cl_suite.runs.harness import Harness
from cl_suite.runs.load import load_stream
from cl_suite.runs.logged_run import logged_run
from cl_suite.runs.networks import network_factory_of
from cl_suite.runs.plan import Plan
from cl_suite.runs.saved_config import save_config


@dataclass(frozen=True)
class Outcome:
    """A record and where it lies.

    run: what was carried out, where that was to be kept; None of a record that was there already
    """

    record: RunRecord
    path: Path
    run: Run | None = None


class Keeper(Protocol):
    """Keeps something of a run beside its record: its model."""

    def check(self, run: Run) -> None:
        """Before training: raise UsageError where it could not be kept."""
        ...

    def keep(self, run: Run) -> None:
        """After training, before the record is written."""
        ...


@undisturbed()
def run_all(
    plans: Sequence[Plan],
    *,
    quiet: bool = False,
    debug: bool = False,
    console: Any = None,
    keeper: Keeper | None = None,
    keep: bool = False,
) -> list[Outcome]:
    """Run every plan, one after another; finished ones are read from disk unless they are to be overwritten.

    console: where remarks and progress go; None = standard error, or nowhere if `quiet`
    keep:    whether outcomes hold what was trained
    """
    console = console or console_for(quiet=quiet)
    outcomes = []
    told: set[str] = set()  # remarks that hold for every seed
    for plan in plans:
        previous = _finished(plan)
        if previous is not None and not plan.request.overwrite:
            lacks = [name for name in plan.request.diagnostics if name not in previous.diagnostics]
            without = f", without --diagnostics {' '.join(lacks)}" if lacks else ""
            if keeper is not None and not plan.model_path.exists():
                without += ", without a saved model"
            console.print(f"seed {plan.request.seed}: already finished{without}; {_again(plan)} runs it again.")
            outcomes.append(Outcome(previous, plan.record_path))
            continue
        console.print(_headline(plan))
        if (remark := plan.unused_validation) and remark not in told:
            told.add(remark)
            console.print(f"Note: {remark}.", markup=False)
        outcomes.append(run_one(plan, console=console, debug=debug, keeper=keeper, keep=keep))
    return outcomes


def run_one(
    plan: Plan, *, console: Any = None, debug: bool = False, keeper: Keeper | None = None, keep: bool = False
) -> Outcome:
    """Run one plan and save its record, also if it fails. Raise UsageError where the data or the network do not fit.

    An interruption leaves the checkpoint behind, and the same request goes on from it.
    """
    run = Run(plan, console=console, debug=debug)
    run.prepare()
    if keeper is not None:
        keeper.check(run)
    run.train()
    if keeper is not None:
        keeper.keep(run)
    outcome = run.record()
    if keeper is None and outcome.record.status == "complete":
        plan.model_path.unlink(missing_ok=True)  # of the run that this one replaces: another model than the record's
    if not keep:
        return outcome
    run.let_go_of_training_samples()
    return replace(outcome, run=run)


class Run:
    """One plan, carried out in three steps: `prepare`, `train`, `record`.

    console: where remarks and progress go; None = nowhere
    debug:   show the traceback of whatever makes the run fail
    harness: after `prepare`, what learns and scores
    error:   after `train`, why the run failed, in a line; None = it did not
    """

    harness: Harness

    def __init__(self, plan: Plan, *, console: Any = None, debug: bool = False) -> None:
        self.plan, self.debug = plan, debug
        self.console = console or console_for(quiet=True)
        self.error: str | None = None

    def prepare(self) -> None:
        """Load the stream and make strategy, networks and evaluations. Nothing is trained.

        Raise DataError where files are absent or wrong, UsageError or PluginError for what does not fit.
        """
        plan = self.plan
        code_state()  # as it is now: a checkout may move on while a run lasts
        self.started = datetime.now(UTC)
        self.threads = set_threads(plan.request.threads)
        stream = plan.stream.cls(plan.composed.run.stream)
        self.loaded = load_stream(
            stream, plan.composed.run, root=plan.request.data_root, seeds=plan.seeds, device=plan.device
        )
        if plan.request.beginning is not None:
            plan.request.beginning.fits(plan, self.loaded)
        for remark in self.loaded.remarks:
            self.console.print(remark)
        scenario_stream = scenario_stream_of(plan, self.loaded)
        strategy, expected_samples = strategy_of(plan, scenario_stream)
        self.networks = network_factory_of(plan, scenario_stream)
        for remark in self.networks.remarks:
            self.console.print(remark)
        self._display = RunDisplay(
            self.console, n_experiences=scenario_stream.n_experiences, expected_samples=expected_samples
        )
        tasks = [task.name for task in scenario_stream.tasks]
        self._logs = CurveFollower(
            plan.request.log, logged_run(plan, tasks=tasks), console=self.console, show=self.debug
        )
        self.harness = Harness(
            strategy,
            scenario_stream,
            self.networks,
            listener=Both(self._display, self._logs) if plan.request.log else self._display,
            checkpoint=plan.checkpoint,
            fingerprint=_fingerprint(plan),
            evaluations=evaluations_of(plan, strategy, scenario_stream),
            beginning=plan.request.beginning,
        )
        self._logs.follow(self.harness)

    def train(self) -> None:
        """Learn every experience and score it, from the checkpoint if there is one. What fails is kept in `error`."""
        # The first optimiser of a process makes torch load its compiler, for seconds that are not the strategy's.
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        with self._display, self._logs:
            try:
                self.harness.run(resume=self.plan.request.resume)
            except UsageError:
                raise
            except Exception as problem:  # a stranger's method may raise anything; it is recorded as a failed run
                if self.debug:
                    traceback.print_exc()
                self.error = one_line(problem)

    def record(self) -> Outcome:
        """Write the record, complete or failed. Of a complete run the checkpoint is removed."""
        try:
            record = self._record()
            parse_record(record.to_json())  # what is written can be read again
        except Exception as problem:  # e.g. diagnostics that JSON cannot keep: the run failed, and says so
            if self.error is not None:
                raise
            self.error = one_line(problem)
            record = self._record()
        path = save_record(record, self.plan.record_path)
        save_config(self.plan)
        if record.status == "complete":
            self.plan.checkpoint.unlink(missing_ok=True)
        self._logs.finish(record)
        return Outcome(record, path)

    def let_go_of_training_samples(self) -> None:
        """Free what was trained on, for one who keeps the run; their number and shape stay."""
        self.harness.scenario_stream.let_go_of_training_samples()
        self.loaded = replace(self.loaded, data=self.loaded.data.without_training_inputs())

    def _record(self) -> RunRecord:
        plan, harness, failed = self.plan, self.harness, self.error is not None
        results, stream = harness.results, harness.scenario_stream
        return RunRecord(
            status="failed" if failed else "complete",
            error=self.error,
            strategy=plan.strategy.name,
            stream=plan.stream.name,
            scenario=plan.scenario.value,
            protocol=plan.composed.run.protocol,
            seed=plan.request.seed,
            seeds={"model": plan.seeds.model, "data": plan.seeds.data, "classes": plan.seeds.classes},
            config=plan.config,
            R=results.R,
            R_task_aware=results.R_task_aware,
            baseline=results.baseline,
            test_samples=harness.test_samples(),
            task_names=[task.name for task in stream.tasks],
            curve=results.curve,
            metrics={} if failed or not results.R else self._metrics(),
            costs=harness.counted() if failed else self._costs(),
            model_selection="none" if failed else self._model_selection(),
            diagnostics={} if failed else self._diagnostics(),
            provenance=provenance(
                plan.request.command,
                torch_version=torch.__version__,
                device=_device_name(plan.device),
                threads=self.threads,
                stream_version=plan.stream.cls.version,
                data_checksums=self.loaded.data.checksums,
                started=self.started,
                call=plan.request.call,
            )
            | ({} if plan.request.beginning is None else {"continued_from": dict(plan.request.beginning.identity)}),
        )

    def _costs(self) -> dict[str, float]:
        """Return the costs, with those of the run that this one goes on from; the peak of memory is the higher one."""
        costs, beginning = self.harness.costs(), self.plan.request.beginning
        if beginning is not None:
            costs["peak_memory_bytes"] = max(costs["peak_memory_bytes"], beginning.peak_memory_bytes)
        return costs

    def _metrics(self) -> dict[str, float | None]:
        results, stream = self.harness.results, self.harness.scenario_stream
        metrics = summarise(
            results.R,
            results.baseline,
            self.harness.test_samples(),
            results.curve,
            R_task_aware=results.R_task_aware,
            rows_are_tasks=stream.has_boundaries,
            begun=None if stream.has_boundaries else [stream.begun(row) for row in range(len(results.R))],
        )
        for evaluation in self.harness.evaluations.values():
            metrics |= evaluation.metrics(results.R)
        return metrics

    def _model_selection(self) -> str:
        """Return what models were chosen by: "none", "validation", or "oracle" where test scores chose."""
        chosen = [evaluation.model_selection() for evaluation in self.harness.evaluations.values()]
        return next(filter(None, chosen), self.harness.strategy.model_selection())

    def _diagnostics(self) -> dict[str, Any]:
        """Return the strategy's own facts, its state in parts, what its samples were encoded by, and evaluations."""
        harness = self.harness
        strategy = harness.strategy
        facts = {"state_bytes": harness.state_bytes(), **strategy.diagnostics(), **strategy.training_facts()}
        facts |= {**self.loaded.encoding, **self.networks.facts}
        for name, evaluation in harness.evaluations.items():
            if measured := evaluation.record():
                facts[name] = measured
            if figures := evaluation.figures():
                facts["figures"] = {**facts.get("figures", {}), **figures}
        return facts


def _finished(plan: Plan) -> RunRecord | None:
    if not plan.record_path.exists():
        return None
    record = load_record(plan.record_path)
    began = None if plan.request.beginning is None else plan.request.beginning.identity["sha256"]
    same = (record.provenance.get("continued_from") or {}).get("sha256") == began  # of this very beginning
    return record if record.status == "complete" and same else None


def _again(plan: Plan) -> str:
    return "--overwrite" if plan.request.from_command_line else "overwrite=True"


def _headline(plan: Plan) -> str:
    train = plan.composed.run.train
    return (
        f"{plan.strategy.name} on {plan.stream.name}, {plan.scenario}, seed {plan.request.seed}, "
        f"protocol {plan.composed.run.protocol} ({train.epochs} epochs, batch {train.batch_size}), on {plan.device}"
    )


def _fingerprint(plan: Plan) -> str:
    """Return what must be equal for a checkpoint to be continued: code, configuration, seed."""
    versions = [__version__, torch.__version__, plan.strategy.digest]
    versions += [] if plan.request.beginning is None else [plan.request.beginning.identity["sha256"]]
    return " ".join([*versions, plan.record_path.parent.name, plan.record_path.stem, *plan.request.diagnostics])


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
