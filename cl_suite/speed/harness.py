"""What the harness costs: its training loop beside a bare PyTorch loop, alternating in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_suite.core.devices import choose_device, set_threads
from cl_suite.core.experience import Experience
from cl_suite.core.metering import Meter
from cl_suite.core.objective import Classification
from cl_suite.core.samples import Samples
from cl_suite.core.scenario import Scenario
from cl_suite.core.seeding import Seeds
from cl_suite.core.types import StreamInfo, TrainSettings
from cl_suite.data.prepare import PrepareImages
from cl_suite.methods.gradient_strategy import GradientStrategy
from cl_suite.networks.network import Network, build_network

CASES = {
    "mlp 300-100, 28x28, batch 32": ("mlp", (1, 28, 28), 32),
    "conv_small, 32x32, batch 32": ("conv_small", (3, 32, 32), 32),
}
N_CLASSES = 10
N_SAMPLES = 2000


class _PlainDescent(GradientStrategy):
    """The common loop as it stands."""


def measure(*, device: str = "auto", steps: int = 300, repeats: int = 3) -> dict[str, Any]:
    """Time both loops `repeats` times, alternating, `steps` gradient steps each; return medians and their ratio.

    The bare loop does the same arithmetic: index, normalise, forward, cross-entropy, backward, SGD with momentum.
    """
    place = choose_device(device)
    threads = set_threads(0)
    cases = {}
    for name, (model_name, shape, batch_size) in CASES.items():
        images = torch.randint(0, 256, (N_SAMPLES, *shape), dtype=torch.uint8, device=place)
        targets = torch.randint(0, N_CLASSES, (N_SAMPLES,), device=place)
        loops: dict[str, Callable[[int], None]] = {
            "bare": _bare(model_name, images, targets, batch_size),
            "harness": _harness(model_name, images, targets, batch_size),
        }
        seconds: dict[str, list[float]] = {"bare": [], "harness": []}
        for loop in loops.values():
            loop(10)
        for _ in range(repeats):
            for kind, loop in loops.items():
                seconds[kind].append(_timed(loop, steps, place))
        rates = {kind: steps * batch_size / statistics.median(values) for kind, values in seconds.items()}
        cases[name] = {
            "bare_samples_per_second": rates["bare"],
            "harness_samples_per_second": rates["harness"],
            "ratio": rates["bare"] / rates["harness"],
        }
    return {
        "device": device_name(place),
        "threads": threads,
        "torch": torch.__version__,
        "steps": steps,
        "cases": cases,
    }


def render(measured: dict[str, Any]) -> str:
    """Return the measurement as text."""
    lines = [f"{measured['device']}, {measured['threads']} threads, torch {measured['torch']}"]
    for name, case in measured["cases"].items():
        lines.append(
            f"  {name}: bare loop {case['bare_samples_per_second']:,.0f} samples/s, "
            f"harness {case['harness_samples_per_second']:,.0f}; the harness takes {case['ratio']:.2f} times as long"
        )
    return "\n".join(lines)


def _prepare(images: Tensor) -> PrepareImages:
    channels = images.shape[1]
    return PrepareImages(mean=(0.5,) * channels, std=(0.25,) * channels)


def _network(model_name: str, images: Tensor) -> Network:
    network = build_network(model_name, tuple(images.shape[1:]), N_CLASSES).to(images.device)
    network.heads.open()
    return network


def _bare(model_name: str, images: Tensor, targets: Tensor, batch_size: int) -> Callable[[int], None]:
    model = _network(model_name, images)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    prepare = _prepare(images)

    def loop(steps: int) -> None:
        model.train()
        for start in range(steps):
            rows = torch.arange(start * batch_size, (start + 1) * batch_size, device=images.device) % N_SAMPLES
            loss = F.cross_entropy(model(prepare(images[rows])), targets[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return loop


def _harness(model_name: str, images: Tensor, targets: Tensor, batch_size: int) -> Callable[[int], None]:
    device = images.device
    info = StreamInfo(
        stream="speed",
        scenario=Scenario.DOMAIN_INCREMENTAL,
        n_experiences=1,
        input_shape=tuple(images.shape[1:]),
        n_outputs=N_CLASSES,
        objective=Classification(),
        prepare=_prepare(images),
        train=TrainSettings(batch_size=batch_size, augment=False),
        seeds=Seeds(0, 0, 0),
        device=device,
    )
    strategy = _PlainDescent(_PlainDescent.Config(lr=0.01))
    strategy.setup(info, lambda: _network(model_name, images))

    def loop(steps: int) -> None:
        samples = Samples(images, targets)
        rounds = -(-steps * batch_size // N_SAMPLES)
        index = torch.arange(rounds * N_SAMPLES, device=device)[: steps * batch_size] % N_SAMPLES
        meter = Meter()
        with meter.metering():
            experience = Experience(
                index=0,
                source=samples.select(index),
                prepare=info.prepare,
                train=TrainSettings(epochs=1, batch_size=batch_size, augment=False),
                seeds=info.seeds,
                device=device,
                classes=tuple(range(N_CLASSES)),
            )
            strategy.learn(experience)

    return loop


def now(device: torch.device) -> float:
    """Return the time in seconds once all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _timed(loop: Callable[[int], None], steps: int, device: torch.device) -> float:
    started = now(device)
    loop(steps)
    return now(device) - started


def device_name(device: torch.device) -> str:
    """Return the device's name for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
