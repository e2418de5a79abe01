"""A stream as a stranger writes one: each task orders pixels anew, prepared by a class of its own."""

from dataclasses import dataclass

import torch

from cl_suite import Samples, Scenario, Stream, StreamData, TaskData, generator_for


@dataclass(frozen=True)
class Shuffle:
    order: torch.Tensor  # [H * W] int64

    def __call__(self, raw):
        return raw.flatten(2)[:, :, self.order].view_as(raw)

    def to(self, device):
        return Shuffle(self.order.to(device))


@dataclass(frozen=True)
class Centre:
    middle: float
    scales: tuple[float, ...] = (1.0,)

    def __call__(self, raw, generator=None):
        return (raw.float() - self.middle) / 255 * self.scales[0]


class ShuffledStripes(Stream):
    scenarios = (Scenario.DOMAIN_INCREMENTAL, Scenario.TASK_INCREMENTAL)

    @dataclass
    class Config:
        n_tasks: int = 3
        prepare: str = "class"

    def load(self, root, seeds):
        generator = generator_for(0, "stripes")

        def draw(count):
            targets = torch.arange(count) % 2
            images = torch.randint(0, 128, (count, 1, 4, 4), generator=generator)
            images[targets == 0, :, 0] += 100
            images[targets == 1, :, 3] += 100
            return images.to(torch.uint8), targets

        train, test = draw(40), draw(20)
        tasks = []
        for number in range(self.config.n_tasks):
            transform = Shuffle(torch.randperm(16, generator=generator_for(1, "order", number)))
            parts = (Samples(*part, transform=transform) for part in (train, test))
            tasks.append(TaskData(f"order {number}", *parts, ("top", "bottom")))
        prepare = Centre(100.0) if self.config.prepare == "class" else lambda raw, generator=None: raw.float()
        return StreamData(tuple(tasks), prepare, labels="shared")
