"""`cl_suite.run`: what `cl-bench run` does, from Python."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from cl_suite.api.notebook import NotebookConsole, in_notebook
from cl_suite.api.overrides import overrides_of, text_of
from cl_suite.api.plugins import Given, given
from cl_suite.api.result import FailedRun, Result
from cl_suite.core.data_root import DataRoot, default_data_root
from cl_suite.core.errors import UsageError, nearest
from cl_suite.core.registry import STRATEGY, STREAM
from cl_suite.loggers.choice import chosen_loggers
from cl_suite.records.provenance import without_machine
from cl_suite.runs.display import console_for
from cl_suite.runs.evaluations import DIAGNOSED, EVALUATED
from cl_suite.runs.execute import run_all
from cl_suite.runs.plan import Plan, Request, plan
from cl_suite.saved_models.continuing import beginning_of
from cl_suite.saved_models.save import ModelKeeper


def run(
    strategy: Any = "exssnet",
    stream: Any = "split_digits",
    scenario: str | None = None,
    seeds: int | Iterable[int] = (0,),
    *,
    results: str | Path = "results",
    data_root: str | Path | None = None,
    offline: bool = False,
    device: str = "auto",
    threads: int = 0,
    resume: bool = True,
    overwrite: bool = False,
    evaluate: str | None = None,
    diagnostics: str | None = None,
    save_model: bool = False,
    continue_from: str | Path | None = None,
    log: str | Sequence[str] = (),
    log_dir: str | Path = "logs",
    progress: bool = True,
    raise_on_failure: bool = True,
    **options: Any,
) -> Result:
    """Train a strategy on a stream, score it, save a record for each seed; return what was measured.

    It is the same run as that of `cl-bench run`: same record, same place, same numbers. A finished one is read from
    its record, not repeated. An interrupted one leaves a checkpoint, from which the same call goes on.

    strategy, stream: a name as on the command line (`er`, `my_method.py:Replay`), a class, also one defined in a
        notebook, or an object, which stands for its class with the options of its config
    scenario: task_incremental, class_incremental, domain_incremental or task_agnostic; None = the stream's first
    seeds: one, or several, which run one after another
    results: the folder of records; data_root: where data lies; offline: never download
    device: auto, cpu, cuda, cuda:1; threads: of the CPU, 0 = the cores this process may use
    evaluate, diagnostics: what else is asked, as after --evaluate and --diagnostics
    save_model: keep what answers at the end beside the record, so that a finished run that is found has it too
    continue_from: the record of a finished run with a saved model, to learn further tasks after
    log: live curves: tensorboard, wandb, mlflow, or several
    progress: whether to show how far it is, in a terminal or a notebook
    raise_on_failure: False returns failed runs in the result instead of raising
    options: those of the command line: `train__epochs=1` or `train={"epochs": 1}` is train.epochs=1. The group may be
        left out, `epochs=1`, where only one of strategy, stream, train and model has the option

    Raise UsageError, DataError or PluginError for what cannot run; RunError, which has the `result`, if a run failed.
    """
    learner, source = given(STRATEGY, strategy), given(STREAM, stream)
    own = {**learner.options, **source.options}
    texts = {each.partition("=")[0]: each for each in (text_of(key, value) for key, value in own.items())}
    texts |= {each.partition("=")[0]: each for each in overrides_of(options, learner.chosen, source.chosen)}
    overrides = list(texts.values())
    wanted = _seeds(seeds)
    loggers = [log] if isinstance(log, str) else list(log)
    extra = _evaluation(evaluate)
    _known("diagnostics", diagnostics, DIAGNOSED)
    flags: dict[str, Any] = {"scenario": scenario, "device": device, "threads": threads, "evaluate": evaluate}
    flags |= {
        "diagnostics": diagnostics,
        "save_model": save_model,
        "continue_from": continue_from,
        "results": str(results),
        "offline": offline,
        "data_root": data_root,
    }
    asked = {name: value for name, value in flags.items() if value != DEFAULTS[name]}
    specs = None if learner.spec is None or source.spec is None else (learner.spec, source.spec)
    plans = [
        plan(
            Request(
                strategy=learner.chosen,
                stream=source.chosen,
                scenario=scenario,
                seed=seed,
                device=device,
                threads=threads,
                results=Path(results),
                data_root=DataRoot(Path(data_root) if data_root else default_data_root(), offline=offline),
                overrides=(*overrides, *extra),
                resume=resume,
                overwrite=overwrite,
                diagnostics=(diagnostics,) if diagnostics else (),
                command=() if specs is None else _command(*specs, wanted, asked, overrides),
                call=_call(learner, source, wanted, asked, options) if specs is None else "",
                from_command_line=False,
                log=chosen_loggers(loggers),
                log_dir=Path(log_dir),
                beginning=None if continue_from is None else beginning_of(Path(continue_from), seed=seed),
            )
        )
        for seed in wanted
    ]
    console = _console(progress)
    try:
        outcomes = run_all(plans, console=console, keeper=ModelKeeper() if save_model else None, keep=True)
    except KeyboardInterrupt:
        _say_what_is_kept(plans, console)
        raise
    result = Result(tuple(outcomes), tuple(plans))
    if result.failed and raise_on_failure:
        raise FailedRun(result)
    return result


DEFAULTS = {
    "scenario": None,
    "device": "auto",
    "threads": 0,
    "evaluate": None,
    "diagnostics": None,
    "save_model": False,
    "continue_from": None,
    "results": "results",
    "offline": False,
    "data_root": None,
}


def _seeds(seeds: int | Iterable[int]) -> list[int]:
    several = [seeds] if not isinstance(seeds, Iterable) else list(seeds)
    try:
        whole = [operator.index(seed) for seed in several]
    except TypeError as problem:
        raise UsageError(f"seeds={seeds!r} are not whole numbers. Write for example seeds=[0, 1, 2].") from problem
    if not whole or len(set(whole)) != len(whole):
        raise UsageError(f"seeds={seeds!r} names {'a seed twice' if whole else 'none'}. Name each once.")
    return whole


def _known(flag: str, name: str | None, known: Mapping[str, Any]) -> None:
    if name is not None and name not in known:
        raise UsageError(f"{flag}={name!r} is not known. {nearest(str(name), known)}")


def _evaluation(name: str | None) -> list[str]:
    _known("evaluate", name, EVALUATED)
    return [f"{name}.evaluate=true"] if name else []


def _command(
    strategy: str, stream: str, seeds: Sequence[int], asked: Mapping[str, Any], overrides: Sequence[str]
) -> tuple[str, ...]:
    """Return the arguments of `cl-bench` that ask for the same."""
    words = ["--strategy", strategy, "--stream", stream]
    for name, value in asked.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    if list(seeds) != [0]:
        words += ["--seeds", ",".join(map(str, seeds))]
    return (*words, *overrides)


def _call(
    strategy: Given, stream: Given, seeds: Sequence[int], asked: Mapping[str, Any], options: Mapping[str, Any]
) -> str:
    """Return the call in Python, for what only the program has that asked: a class it defines."""
    plugins = [each.chosen.cls.__name__ if each.spec is None else repr(each.spec) for each in (strategy, stream)]
    own = {key: value for each in (strategy, stream) for key, value in each.options.items()}
    named = {**asked, **({"seeds": list(seeds)} if list(seeds) != [0] else {}), **options}
    words = [f"{name}={_short(value)!r}" for name, value in named.items()]
    words += [f"**{ {key: _short(value) for key, value in own.items()}!r}"] if own else []
    return f"cl_suite.run({', '.join([*plugins, *words])})"


def _short(value: Any) -> Any:
    """Return a value of a call without folders of the machine."""
    if isinstance(value, Mapping):
        return {key: _short(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_short(each) for each in value]
    return without_machine(str(value)) if isinstance(value, str | Path) else value


def _console(progress: bool) -> Console:
    return NotebookConsole() if progress and in_notebook() else console_for(quiet=not progress)


def _say_what_is_kept(plans: Sequence[Plan], console: Console) -> None:
    kept = [str(plan.checkpoint) for plan in plans if plan.checkpoint.exists()]
    what = f"Saved up to the last finished experience: {', '.join(kept)}." if kept else "No experience was finished."
    console.print(f"Interrupted. {what} The same call goes on from there.")
