"""A saved model as one program: torch.export's `.pt2`, or ONNX. What comes out is held against the model itself."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cl_suite.core.errors import UsageError
from cl_suite.core.files import write_atomic
from cl_suite.core.types import Inputs, StreamInfo, map_inputs

SUFFIXES = (".pt2", ".onnx")
EXAMPLES = 3  # samples the program is traced with
TRIED = (1, 5)  # batches it is held against the model with
INSTALL = "pip install 'cl-suite[onnx]' (or: uv pip install 'cl-suite[onnx]')"


class Answering(Protocol):
    """What of a saved predictor a program is made of; see `SavedPredictor`."""

    strategy: Any
    stream: StreamInfo
    encoders: tuple[Any, ...]
    tasks: tuple[Any, ...]
    info: dict[str, Any]

    def task(self, task: int | str | None) -> Any:
        """Return a task by number or name."""
        ...

    def answering(self, task: Any, preference: Sequence[float] | None) -> Callable[[Inputs], Tensor]:
        """Return the predictor of prepared inputs."""
        ...

    def answer_batch(self, raw: Inputs, task: Any, answer: Callable[[Inputs], Tensor]) -> Tensor:
        """Return the answer to stored samples."""
        ...


class Program(nn.Module):
    """A predictor as a module, so that its networks travel with it."""

    def __init__(self, answer: Callable[[Inputs], Tensor], parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self._answer = answer

    def forward(self, inputs: Inputs) -> Tensor:
        """Return logits [B, C]."""
        return self._answer(inputs)


def export_program(
    saved: Answering, path: Path, task: int | str | None, *, preference: Sequence[float] | None = None
) -> Path:
    """Write the program from stored samples to logits [B, C]; return where it lies.

    Of texts it reads token ids {"tokens": [B, L], "mask": [B, L]} of the full length L, or an encoder's vectors.

    Raise UsageError for another ending than .pt2 or .onnx, for an answer that is no one program (one that chooses among
    networks by its inputs), and where the program answers something else.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path.name} ends in neither {' nor '.join(SUFFIXES)}. Name the format by its ending.")
    if path.suffix == ".onnx":
        _check_onnx()
    known = saved.task(task)
    answer = saved.answering(known, preference)

    def whole(inputs: Inputs) -> Tensor:
        return saved.answer_batch(inputs, known, answer)

    def encoded(inputs: Inputs) -> Tensor:
        return answer(inputs if saved.stream.vocabulary is not None else saved.stream.prepare(inputs))

    texts = saved.tasks[0].texts
    program = Program(encoded if texts else whole, _networks(saved))
    examples = _examples(saved, known, EXAMPLES)
    batch = torch.export.Dim.DYNAMIC
    dynamic: Any = {0: batch} if isinstance(examples, Tensor) else {key: {0: batch} for key in examples}
    with torch.no_grad():
        program(examples)  # what is kept from call to call (a mean, a grid) is made of numbers, not of a trace
    try:
        with _quiet():
            exported = torch.export.export(program, (examples,), dynamic_shapes=(dynamic,), strict=False)
            content, run = _written(exported, examples, path.suffix)
    except Exception as problem:  # torch.export's errors are of many kinds; each means the same here
        reason = " ".join(str(problem).split())[:150] or type(problem).__name__
        raise UsageError(
            f"the answer of {saved.info['strategy']} cannot be exported as one program to {path.suffix} ({reason}). "
            "Use cl_suite.load_predictor, which answers for every strategy."
        ) from problem
    for count in TRIED:
        inputs = _examples(saved, known, count)
        with torch.no_grad():
            expected = program(inputs)
        if not torch.allclose(run(inputs), expected, rtol=1e-4, atol=1e-4):
            raise UsageError(
                f"the program exported to {path.suffix} answers something else than {saved.info['strategy']}, so that "
                "it is not written. Use cl_suite.load_predictor."
            )
    write_atomic(path, content, flag="another FILE")
    return path


def _examples(saved: Answering, task: Any, count: int) -> Inputs:
    """Return random samples as the program reads them."""
    generator = torch.Generator().manual_seed(count)
    which = task or saved.tasks[0]
    if which.texts:
        text: Inputs = torch.randint(97, 123, (count, 24), generator=generator).to(torch.uint8)
        for encoder in saved.encoders:
            text = encoder(text)
        return text

    def draw(shape: tuple[int, ...], kind: str) -> Tensor:
        if kind == "uint8":
            return torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)
        return torch.randn(count, *shape, generator=generator).to(getattr(torch, kind))

    if isinstance(which.shape, dict):
        assert isinstance(which.dtype, dict)
        drawn: Inputs = {name: draw(shape, which.dtype[name]) for name, shape in which.shape.items()}
    else:
        drawn = draw(which.shape, str(which.dtype))
    return map_inputs(lambda value: value.to(saved.stream.device), drawn)


def _networks(saved: Answering) -> list[nn.Module]:
    """Return every module that a strategy or an encoder holds."""
    found: dict[int, nn.Module] = {}

    def look(value: Any, depth: int = 0) -> None:
        if isinstance(value, nn.Module):
            found[id(value)] = value
        elif isinstance(value, dict) and depth < 3:
            for each in value.values():
                look(each, depth + 1)
        elif isinstance(value, list | tuple) and depth < 3:
            for each in value:
                look(each, depth + 1)

    for owner in (saved.strategy, *saved.encoders):
        look(dict(vars(owner)))
    return list(found.values())


def _written(exported: Any, examples: Inputs, suffix: str) -> tuple[bytes, Callable[[Inputs], Tensor]]:
    """Return a program's file and what runs it as it was written."""
    if suffix == ".pt2":
        buffer = io.BytesIO()
        torch.export.save(exported, buffer)
        buffer.seek(0)
        again = torch.export.load(buffer).module()
        return buffer.getvalue(), lambda inputs: again(inputs)
    program = torch.onnx.export(exported, (examples,), dynamo=True, verbose=False)
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(inputs: Inputs) -> Tensor:
        values = [inputs] if isinstance(inputs, Tensor) else list(inputs.values())
        feed = {name: value.cpu().numpy() for name, value in zip(names, values, strict=True)}
        return torch.from_numpy(session.run(None, feed)[0])

    return content, run


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it torch tells nothing of how it traces a program."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _check_onnx() -> None:
    """Raise UsageError where what ONNX needs is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as problem:
        raise UsageError(f"ONNX needs the package {problem.name}, which is not installed: {INSTALL}.") from problem
