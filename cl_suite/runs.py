"""From a request to a record on disk: choose, compose, check, run, save. Used by the command line and by tests."""

from __future__ import annotations

import hashlib
import inspect
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from cl_suite import __version__
from cl_suite.config import Composed, compose_config, resolve_scenario
from cl_suite.data_root import DataRoot
from cl_suite.devices import choose_device, set_threads
from cl_suite.display import RunDisplay, console_for
from cl_suite.errors import CLSuiteError, RunError, UsageError, nearest
from cl_suite.harness import Harness
from cl_suite.metrics import summarise
from cl_suite.networks import build_network
from cl_suite.presentation import Presentation, check_scenario
from cl_suite.record import (
    RunRecord,
    config_hash,
    load_record,
    provenance,
    record_path,
    save_record,
)
from cl_suite.registry import STRATEGY, STREAM, Chosen, choose, installed
from cl_suite.scenario import Scenario
from cl_suite.seeding import Seeds
from cl_suite.strategy import Strategy


@dataclass(frozen=True)
class Request:
    """One run as asked for on the command line; see `cl-bench --help`."""

    strategy: str
    stream: str
    results: Path
    data_root: DataRoot
    scenario: str | None = None
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    overrides: tuple[str, ...] = ()
    resume: bool = True
    overwrite: bool = False
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A checked request: everything that can be refused without reading data has been."""

    request: Request
    strategy: Chosen
    stream: Chosen
    scenario: Scenario
    composed: Composed
    config: dict[str, Any]  # for the record: the composed configuration, and what identifies a plugin's file
    device: torch.device
    record_path: Path

    @property
    def checkpoint(self) -> Path:
        """Where the state between experiences is kept while the run is unfinished."""
        return self.record_path.with_suffix(".partial.safetensors")

    @property
    def target(self) -> dict[str, Any]:
        """The published figure, for protocol=paper."""
        return self.composed.target

    @property
    def seeds(self) -> Seeds:
        """The run's three seeds."""
        chosen, default = self.composed.run.seeds, self.request.seed
        return Seeds(
            model=default if chosen.model is None else chosen.model,
            data=default if chosen.data is None else chosen.data,
            classes=default if chosen.classes is None else chosen.classes,
        )


@dataclass(frozen=True)
class Outcome:
    """A record, where it lies, and whether it was there before."""

    record: RunRecord
    path: Path
    reused: bool = False


def plan(request: Request) -> Plan:
    """Check a request and say what would run. Raise UsageError or PluginError, in one line, if it cannot."""
    device = choose_device(request.device)
    strategy = choose(STRATEGY, request.strategy)
    stream = choose(STREAM, request.stream)
    wanted = resolve_scenario(request.overrides, request.scenario, strategy=strategy.name, stream=stream.name)
    scenario = _scenario(stream, wanted)
    composed = compose_config(
        strategy=strategy.name,
        strategy_config=strategy.cls.Config,
        stream=stream.name,
        stream_config=stream.cls.Config,
        scenario=scenario.value,
        overrides=request.overrides,
    )
    check_requirements(strategy, composed.run.strategy, scenario)
    plain = composed.plain | _sources(strategy, stream)
    path = record_path(
        request.results,
        stream=stream.name,
        scenario=scenario.value,
        strategy=strategy.name,
        config_hash=config_hash(plain, stream_version=stream.cls.version),
        seed=request.seed,
    )
    _check_writable(path.parent, request.results)
    return Plan(request, strategy, stream, scenario, composed, plain, device, path)


def run_all(plans: Sequence[Plan], *, quiet: bool = False, debug: bool = False) -> list[Outcome]:
    """Run every plan, one after another; finished ones are read from disk unless they are to be overwritten."""
    console = console_for(quiet=quiet)
    outcomes = []
    for number, each in enumerate(plans):
        previous = _finished(each)
        if previous is not None and not each.request.overwrite:
            console.print(f"seed {each.request.seed}: already finished; --overwrite runs it again.")
            outcomes.append(Outcome(previous, each.record_path, reused=True))
            continue
        if number == 0 or len(plans) > 1:
            console.print(_headline(each))
        outcomes.append(run_one(each, console=console, debug=debug))
    return outcomes


def run_one(each: Plan, *, console: Any = None, debug: bool = False) -> Outcome:
    """Run one plan and save its record, also if it fails. Raise UsageError where the data or the network do not fit.

    An interruption leaves the checkpoint behind, and the same request goes on from it.
    """
    console = console or console_for(quiet=True)
    started = datetime.now(UTC)
    threads = set_threads(each.request.threads)
    stream = each.stream.cls(each.composed.run.stream)
    data = stream.load(each.request.data_root, each.seeds)
    presentation = Presentation(
        each.stream.name,
        data,
        each.scenario,
        train=each.composed.run.train,
        seeds=each.seeds,
        device=each.device,
        card=stream.card(),
    )
    strategy: Strategy = each.strategy.cls(each.composed.run.strategy)
    display = RunDisplay(
        console,
        n_experiences=presentation.n_experiences,
        n_tasks=len(presentation.tasks),
        expected_samples=strategy.expected_samples(presentation.info),
    )
    harness = Harness(
        strategy,
        presentation,
        _model_builder(each, presentation),
        listener=display,
        checkpoint=each.checkpoint,
        fingerprint=_fingerprint(each),
    )
    error = None
    with display:
        try:
            harness.run(resume=each.request.resume)
        except UsageError:
            raise
        except Exception as problem:  # a stranger's method may raise anything; it is recorded as a failed run
            if debug:
                traceback.print_exc()
            error = _one_line(problem)
    record = _record(each, harness, error, data.checksums, started, threads)
    path = save_record(record, each.record_path)
    if error is None:
        each.checkpoint.unlink(missing_ok=True)
    return Outcome(record, path)


def check_requirements(strategy: Chosen, config: Any, scenario: Scenario) -> None:
    """Refuse a scenario that withholds what the strategy needs, naming what would work instead."""
    needed = strategy.cls.requirements(config)
    missing = needed - scenario.provides
    if not missing:
        return
    what = " and ".join(sorted(requirement.value for requirement in missing))
    fitting = [s.value for s in Scenario if needed <= s.provides]
    others = ", ".join(_strategies_for(scenario, without=strategy.name))
    raise UsageError(
        f"{strategy.name} needs {what}, but {scenario} withholds it. "
        f"Use --scenario {' or '.join(fitting)}{f', or --strategy {others}' if others else ''}."
    )


def _strategies_for(scenario: Scenario, *, without: str) -> list[str]:
    """Return installed strategies whose defaults run in `scenario`; ones that cannot be loaded are passed over."""
    names = []
    for name in installed(STRATEGY):
        try:
            cls = choose(STRATEGY, name).cls
        except CLSuiteError:
            continue
        if name != without and cls.requirements(cls.Config()) <= scenario.provides:
            names.append(name)
    return names


def _scenario(stream: Chosen, wanted: str | None) -> Scenario:
    allowed = stream.cls.scenarios
    if wanted is None:
        return allowed[0]
    if wanted not in list(Scenario):
        raise UsageError(f"--scenario {wanted} is not known. {nearest(wanted, [s.value for s in Scenario])}")
    check_scenario(stream.name, Scenario(wanted), allowed)
    return Scenario(wanted)


def _model_builder(each: Plan, presentation: Presentation) -> Callable[[], torch.nn.Module]:
    model, info = each.composed.run.model, presentation.info
    shape = info.input_shape
    if not isinstance(shape, tuple):
        raise UsageError(
            f"{each.stream.name} hands over dictionaries of inputs, which no backbone of cl-suite reads yet. "
            "Use a stream of images or vectors."
        )
    options: dict[str, Any] = {"width": model.width, "hidden": None if model.hidden is None else tuple(model.hidden)}

    def build() -> torch.nn.Module:
        return build_network(model.name, shape, info.n_outputs, **options)

    build()  # refuse an unfit network before anything is trained
    return build


def _finished(each: Plan) -> RunRecord | None:
    if not each.record_path.exists():
        return None
    record = load_record(each.record_path)
    return record if record.status == "complete" else None


def _check_writable(folder: Path, results: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
        reason = "no permission"
    except OSError as problem:
        writable, reason = False, f"{problem.strerror}: {problem.filename}"
    if not writable:
        raise UsageError(f"--results {results} cannot be written ({reason}). Name another folder.")


def _headline(each: Plan) -> str:
    train = each.composed.run.train
    return (
        f"{each.strategy.name} on {each.stream.name}, {each.scenario}, seed {each.request.seed}, "
        f"protocol {each.composed.run.protocol} ({train.epochs} epochs, batch {train.batch_size}), on {each.device}"
    )


def _sources(*plugins: Chosen) -> dict[str, str]:
    """Return a digest of each plugin given as a file: an edited file is another configuration."""
    return {f"{each.name}_source": _source_digest(each.cls) for each in plugins if each.from_file}


def _source_digest(cls: type) -> str:
    source = inspect.getsourcefile(cls)
    return hashlib.sha256(Path(source).read_bytes()).hexdigest()[:12] if source else ""


def _fingerprint(each: Plan) -> str:
    """Return what must be equal for a checkpoint to be continued: code, configuration, seed."""
    versions = [__version__, torch.__version__, _source_digest(each.strategy.cls)]
    return " ".join([*versions, each.record_path.parent.name, each.record_path.stem])


def _one_line(problem: BaseException) -> str:
    """Return an error as one line; for one not raised on purpose, with the place it came from."""
    text = str(problem).partition("\n")[0]
    if isinstance(problem, RunError):
        return text
    frame = traceback.extract_tb(problem.__traceback__)[-1]
    return f"{type(problem).__name__}: {text} ({Path(frame.filename).name}, line {frame.lineno})"


def _record(
    each: Plan, harness: Harness, error: str | None, checksums: Mapping[str, str], started: datetime, threads: int
) -> RunRecord:
    results, presentation = harness.results, harness.presentation
    counts = harness.test_samples()
    metrics = (
        summarise(
            results.R,
            results.baseline,
            counts,
            results.curve,
            R_task_aware=results.R_task_aware,
            rows_are_tasks=presentation.has_boundaries,
        )
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
        task_names=[task.name for task in presentation.tasks],
        curve=results.curve,
        metrics=metrics,
        costs=harness.costs(),
        model_selection=harness.strategy.model_selection(),
        diagnostics=harness.strategy.diagnostics() if error is None else {},
        provenance=provenance(
            each.request.command,
            torch_version=torch.__version__,
            device=_device_name(each.device),
            threads=threads,
            stream_version=each.stream.cls.version,
            data_checksums=checksums,
            started=started,
        ),
    )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
