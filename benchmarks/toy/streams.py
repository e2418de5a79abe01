"""Synthetic streams for tests and first steps: nothing to download, learned in a second."""

from dataclasses import dataclass

import torch

from benchmarks.toy.point_mass import point_mass_task
from cl_suite import (
    DataRoot,
    PrepareTexts,
    PrepareVectors,
    Samples,
    Scenario,
    Seeds,
    Stream,
    StreamData,
    StreamFacts,
    StreamSizes,
    TaskData,
    UsageError,
    encode_texts,
    generator_for,
)
from cl_suite.robots import (
    PrepareStates,
    SuccessRate,
    demonstrations,
    embed_instructions,
    imitation_objective,
    imitation_task,
    robot_pool,
)

SYLLABLES = ("ba", "de", "fi", "go", "mu", "na", "pe", "ri", "so", "tu")  # of the made-up words, by digit


class ToyGaussians(Stream):
    """Gaussian clusters in a space of a few dimensions, two or more classes per task."""

    facts = StreamFacts(
        modality="vectors",
        source="synthetic, made by cl-suite",
        licence="MIT",
        embedded=True,
        sizes=StreamSizes(tasks=4, classes=8, classes_per_task=2, train=1_600, test=800, input_shape=(16,)),
    )

    @dataclass
    class Config:
        """Shape of the synthetic tasks."""

        n_tasks: int = 4  # tasks, each with classes of its own
        classes_per_task: int = 2  # classes of each task
        n_train: int = 200  # samples per class
        n_test: int = 100  # samples per class
        dimensions: int = 16  # numbers of a sample
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


class ToyText(Stream):
    """Sentences of made-up words, some of the class's own and some that all classes use."""

    facts = StreamFacts(
        modality="texts",
        source="synthetic, made by cl-suite",
        licence="MIT",
        embedded=True,
        out_of_distribution=True,  # texts with the words of one class more
        sizes=StreamSizes(tasks=4, classes=8, classes_per_task=2, train=800, test=400),
    )

    @dataclass
    class Config:
        """Shape of the synthetic tasks."""

        n_tasks: int = 4  # tasks, each with classes of its own
        classes_per_task: int = 2  # classes of each task
        n_train: int = 100  # texts per class
        n_test: int = 50  # texts per class
        words: int = 12  # of a text at most; a third of that at least
        own_words: int = 6  # different ones of each class
        common_words: int = 30  # different ones that all classes use
        share_own: float = 0.4  # chance that a word is the class's own
        data_seed: int = 0  # the words and texts themselves; not one of the run's seeds: every run sees the same data

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Draw the texts; the same `data_seed` gives the same data."""
        c = self.config
        if not 0 <= c.share_own <= 1:
            raise UsageError(f"stream.share_own={c.share_own} is not a share. Use 0 to 1.")
        for name in ("n_tasks", "classes_per_task", "n_train", "n_test", "words", "own_words", "common_words"):
            if getattr(c, name) < 1:
                raise UsageError(f"stream.{name}={getattr(c, name)} is too small. Use 1 or more.")
        generator = generator_for(c.data_seed, "toy_text")

        def number(below: int) -> int:
            return int(torch.randint(below, (1,), generator=generator))

        def text(label: int) -> str:
            shortest = max(1, c.words // 3)
            is_own = torch.rand(shortest + number(c.words - shortest + 1), generator=generator) < c.share_own
            return " ".join(
                _word(c.common_words + label * c.own_words + number(c.own_words) if mine else number(c.common_words))
                for mine in is_own.tolist()
            )

        def draw(classes: range, count: int) -> Samples:
            targets = torch.arange(len(classes)).repeat_interleave(count)
            return Samples(encode_texts([text(classes.start + target) for target in targets.tolist()]), targets)

        tasks = []
        for task in range(c.n_tasks):
            classes = range(task * c.classes_per_task, (task + 1) * c.classes_per_task)
            names = tuple(f"words {k}" for k in classes)
            tasks.append(TaskData(f"words {task}", draw(classes, c.n_train), draw(classes, c.n_test), names))
        beyond = range(c.n_tasks * c.classes_per_task, c.n_tasks * c.classes_per_task + 1)
        return StreamData(tuple(tasks), PrepareTexts(), ood=draw(beyond, c.n_test))


class ToyReach(Stream):
    """A point on a plane is pushed to another goal in each task: imitation and success as on robots, in seconds."""

    facts = StreamFacts(
        modality="robots",
        source="made by cl-suite",
        licence="MIT",
        embedded=True,
        scenarios=(Scenario.TASK_INCREMENTAL, Scenario.DOMAIN_INCREMENTAL),
        sizes=StreamSizes(
            tasks=3, train=294, test=64, episodes=30, input_shape={"states": (1, 2), "instruction": (3,)}
        ),
    )

    @dataclass
    class Config:
        """How much is shown, and how success is measured."""

        n_tasks: int = 3  # 1 to 4
        demonstrations: int = 12  # of each task; the last two are not learned from
        episodes: int = 10  # rollouts of each task in every evaluation
        history: int = 1  # latest moments the policy is shown
        head: str = "l1"  # l1, mse or gmm

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Let the experts show the tasks; every run sees the same demonstrations."""
        c = self.config
        names = ("right", "up", "left", "down")
        for name, low, high in (("n_tasks", 1, 4), ("demonstrations", 3, 1000), ("episodes", 1, 1000)):
            if not low <= getattr(c, name) <= high:
                raise UsageError(f"stream.{name}={getattr(c, name)} is out of range. Use {low} to {high}.")
        if c.history < 1:
            raise UsageError(f"stream.history={c.history} is too small. Use 1 or more.")
        objective, pool = imitation_objective(c.head), robot_pool()
        tasks = []
        for goal, vector in zip(names[: c.n_tasks], embed_instructions(names[: c.n_tasks], "onehot"), strict=True):
            robot = point_mass_task(goal)
            demos = demonstrations(robot, count=c.demonstrations, noise=0.3, made_by={}, root=None, pool=pool)
            tasks.append(
                imitation_task(
                    robot.name,
                    demos,
                    held_out=2,
                    instruction=vector,
                    outputs=objective.outputs(("x", "y")),
                    history=c.history,
                    scorer=SuccessRate(robot, tuple(range(c.episodes)), pool, c.history),
                )
            )
        prepare = PrepareStates((0.0, 0.0), (1.0, 1.0))
        return StreamData(tuple(tasks), prepare, labels="shared", objective=objective, single_head=True)


def _word(number: int) -> str:
    """Return the made-up word of a number: one syllable for each of its digits, e.g. 42 -> "mufi"."""
    return "".join(SYLLABLES[int(digit)] for digit in str(number))
