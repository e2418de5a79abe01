"""Synthetic streams for tests and first steps: nothing to download, learned in a second."""

from dataclasses import dataclass

import torch

from cl_suite import DataRoot, PrepareVectors, Samples, Seeds, Stream, StreamData, TaskData, generator_for


class ToyGaussians(Stream):
    """Gaussian clusters in a space of a few dimensions, two or more classes per task."""

    source = "synthetic, made by cl-suite"
    licence = "MIT"
    embedded = True

    @dataclass
    class Config:
        """Shape of the synthetic tasks."""

        n_tasks: int = 4
        classes_per_task: int = 2
        n_train: int = 200  # samples per class
        n_test: int = 100  # samples per class
        dimensions: int = 16
        distance: float = 4.0  # distance of class centres from the origin, in standard deviations
        data_seed: int = 0  # the clusters themselves; not one of the run's seeds: every run sees the same data

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Draw the clusters; the same `data_seed` gives the same data."""
        c = self.config
        generator = generator_for(c.data_seed, "toy_gaussians")
        n_classes = c.n_tasks * c.classes_per_task
        centres = torch.randn(n_classes, c.dimensions, generator=generator)
        centres = c.distance * centres / centres.norm(dim=1, keepdim=True)

        def draw(classes: range, count: int) -> Samples:
            targets = torch.arange(len(classes)).repeat_interleave(count)
            noise = torch.randn(len(targets), c.dimensions, generator=generator)
            return Samples(centres[targets + classes.start] + noise, targets)

        tasks = []
        for number in range(c.n_tasks):
            classes = range(number * c.classes_per_task, (number + 1) * c.classes_per_task)
            names = tuple(f"cluster {k}" for k in classes)
            tasks.append(TaskData(f"clusters {number}", draw(classes, c.n_train), draw(classes, c.n_test), names))
        return StreamData(tuple(tasks), PrepareVectors())
