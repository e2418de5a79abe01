"""How large a loaded stream is, as `StreamFacts` has it."""

from cl_suite.core.objective import Classification
from cl_suite.core.scenario import StreamSizes
from cl_suite.core.stream import StreamData
from cl_suite.data.texts import PrepareTexts


def measured_sizes(data: StreamData) -> StreamSizes:
    """Return the sizes of data as it is loaded."""
    texts = isinstance(data.prepare, PrepareTexts)
    episodes = sum(task.scorer.count for task in data.tasks if task.scorer is not None)
    counts = [len(task.classes) for task in data.tasks]
    each: int | tuple[int, int] | None = min(counts) if len(set(counts)) == 1 else (min(counts), max(counts))
    classes: int | None = counts[0] if data.labels == "shared" else sum(counts)
    if not isinstance(data.objective, Classification):
        each = classes = None
    return StreamSizes(
        tasks=len(data.tasks),
        classes=classes,
        classes_per_task=each,
        train=sum(len(task.train) for task in data.tasks),
        test=sum(len(task.test) for task in data.tasks),
        episodes=episodes or None,
        input_shape=None if texts else data.input_shape,
    )


def measured_modality(data: StreamData) -> str:
    """Return what the samples of data are."""
    if isinstance(data.prepare, PrepareTexts):
        return "texts"
    if isinstance(data.input_shape, dict):
        return "robots"
    return "images" if len(data.input_shape) == 3 else "vectors"
