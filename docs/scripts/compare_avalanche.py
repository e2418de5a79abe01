"""Our own strategies beside Avalanche's: the same stream, network, seeds and budget. Makes the table of avalanche.md.

Run from the root of the checkout: python docs/scripts/compare_avalanche.py --results results/reference
Records that are there already are read, not made again.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from cl_suite import Batch, Exemplars, Experience, StreamInfo
from strategies.replay.er import ER

SCENARIOS = ("class_incremental", "domain_incremental", "task_incremental")
SEEDS = (0, 1, 2, 3, 4)
SETTING = ("train.epochs=5", "train.batch_size=32")
FRESH = "strategy.renew_optimizer=true"  # ours begin each experience with a fresh optimiser; Avalanche's do not
BATCH = 32


class ReplayAtEnd(ER):
    """Our replay with Avalanche's memory: filled at random when an experience ends, in equal shares of those so far.

    What is replayed is then never of the task at hand; our own memory is a reservoir of the stream up to this step.
    """

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Start with an empty memory."""
        super().setup(info, build_model)
        self.buffer = Exemplars(self.config.buffer_size, info)
        self.parts["buffer"] = self.buffer
        self.shares: list[int] = []  # samples kept of each experience, in order

    def after_step(self, batch: Batch) -> None:
        """Keep nothing while a task is learned."""

    def finish(self, experience: Experience) -> None:
        """Trim what is kept of earlier experiences, and add as much of this one."""
        share = self.config.buffer_size // (len(self.shares) + 1)
        starts = [sum(self.shares[:number]) for number in range(len(self.shares))]
        kept = [torch.arange(start, start + min(share, size)) for start, size in zip(starts, self.shares, strict=True)]
        if kept:
            self.buffer.keep(torch.cat(kept))
        new = next(iter(experience.batches(epochs=1, batch_size=share, augment=False, phase="memory")))
        self.buffer.add(new)
        self.shares = [*map(len, kept), len(new)]


@dataclass(frozen=True)
class Pair:
    """One method in both libraries: (name, options) of each."""

    ours: tuple[str, tuple[str, ...]]
    theirs: tuple[str, tuple[str, ...]]


PAIRS = (
    Pair(("finetune", ()), ("avalanche/naive", (FRESH,))),
    Pair(
        ("er", ("strategy.buffer_size=200",)),
        ("avalanche/replay", (FRESH, "strategy.mem_size=200")),
    ),
    Pair(
        ("docs/scripts/compare_avalanche.py:ReplayAtEnd", ("strategy.buffer_size=200",)),
        ("avalanche/replay", (FRESH, "strategy.mem_size=200")),
    ),
    Pair(
        (
            "ewc",
            (
                "strategy.mode=separate",
                "strategy.ewc_lambda=100",
                "strategy.fisher_samples=0",
                "strategy.cap=false",
            ),
        ),
        # Its Fisher squares the mean gradient of a batch, which is 1/B of the mean squared gradient of a sample.
        ("avalanche/ewc", (FRESH, f"strategy.ewc_lambda={100 * BATCH}")),
    ),
    Pair(
        ("lwf", ("strategy.alpha=1", "strategy.temperature=2", "strategy.warmup_epochs=0")),
        ("avalanche/lwf", (FRESH, "strategy.alpha=1", "strategy.temperature=2")),
    ),
    Pair(
        ("a_gem", ("strategy.buffer_size=200", "strategy.lr=0.1")),
        (
            "avalanche/agem",
            (
                FRESH,
                "strategy.patterns_per_exp=40",
                f"strategy.sample_size={BATCH}",
                "strategy.lr=0.1",
                "strategy.momentum=0",
            ),
        ),
    ),
)


def scores(name: str, options: Sequence[str], scenario: str, *, stream: str, results: Path, seeds: Sequence[int]):
    """Return the records' ACC in percent, one per seed, running what is not there."""
    from cl_suite.core.data_root import DataRoot, default_data_root
    from cl_suite.runs.execute import run_all
    from cl_suite.runs.plan import Request, plan

    overrides = (*SETTING, *options)
    flags = ["--strategy", name, "--stream", stream, "--scenario", scenario]
    plans = [
        plan(
            Request(
                strategy=name,
                stream=stream,
                results=results,
                data_root=DataRoot(default_data_root()),
                scenario=scenario,
                seed=seed,
                device="cpu",
                threads=1,
                overrides=overrides,
                command=(*flags, "--seed", str(seed), "--device", "cpu", "--threads", "1", *overrides),
            )
        )
        for seed in seeds
    ]
    found = []
    for outcome in run_all(plans, quiet=True):
        if outcome.record.status != "complete":
            raise SystemExit(f"{name} failed: {outcome.record.error}")
        found.append(100 * outcome.record.metrics["acc"])
    return found


def row(pair: Pair, ours: Sequence[float], theirs: Sequence[float]) -> tuple[str, bool]:
    """Return a line of the table, and whether the two means agree within two standard errors of their difference."""
    means = [statistics.mean(each) for each in (ours, theirs)]
    errors = [statistics.stdev(each) / math.sqrt(len(each)) for each in (ours, theirs)]
    difference, error = means[0] - means[1], math.hypot(*errors)
    agree = abs(difference) <= 2 * error + 1e-9
    cells = [f"{mean:.1f} ± {error:.1f}" for mean, error in zip(means, errors, strict=True)]
    verdict = "yes" if agree else "**no**"
    line = (
        f"| {pair.ours[0]} | {pair.theirs[0]} | {cells[0]} | {cells[1]} | {difference:+.1f} ± {error:.1f} | {verdict} |"
    )
    return line, agree


def compare(
    *, stream: str, results: Path, scenarios: Sequence[str] = SCENARIOS, seeds: Sequence[int] = SEEDS
) -> dict[tuple[str, str], bool]:
    """Print the table; return whether each (scenario, our strategy) agrees with Avalanche's."""
    verdicts = {}
    for scenario in scenarios:
        print(f"\n{stream}, {scenario}, ACC in % as mean ± standard error over {len(seeds)} seeds\n")
        print("| ours | Avalanche's | ours, ACC | Avalanche's, ACC | difference | within two standard errors |")
        print("|---|---|---|---|---|---|")
        for pair in PAIRS:
            both = [
                scores(name, options, scenario, stream=stream, results=results, seeds=seeds)
                for name, options in (pair.ours, pair.theirs)
            ]
            line, verdicts[scenario, pair.ours[0]] = row(pair, *both)
            print(line, flush=True)
    return verdicts


def main() -> None:
    """Read the flags and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stream", default="split_digits")
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    compare(stream=options.stream, results=options.results)


if __name__ == "__main__":
    main()
