"""Nested state to one file and back, without pickle: tensors as safetensors, everything else as JSON in its header."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cl_suite.core.errors import RunError, UsageError


def save_state(path: Path, state: Any, *, facts: Mapping[str, str] | None = None) -> None:
    """Write `state` (dictionaries, lists, tuples, tensors, numbers, strings, None) to `path`, atomically.

    facts: texts that `read_facts` returns without reading the rest

    A reader finds either the previous file or this one, whole. Raise RunError for a value that is none of these.
    """
    tensors: dict[str, Tensor] = {}
    header = json.dumps(_encode(state, tensors, "state"))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, str(unfinished), metadata={**(facts or {}), "state": header})
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_state(path: Path) -> Any:
    """Return what `save_state` wrote, tensors on the CPU. Raise UsageError if the file is damaged."""
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})["state"])
            return _decode(header, file)
    except (SafetensorError, KeyError, json.JSONDecodeError) as problem:
        raise UsageError(f"{path} is damaged ({problem}). Delete it, or run with --no-resume.") from problem


def read_facts(path: Path) -> dict[str, str]:
    """Return the texts a file was saved with. Raise ValueError where it is not whole, OSError where it is not there."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: text for name, text in (file.metadata() or {}).items() if name != "state"}
    except SafetensorError as problem:
        raise ValueError(str(problem)) from problem


def tensor_bytes(state: Any, *, without: Any = None) -> int:
    """Return the bytes of all tensors in `state`; a storage that appears twice counts once.

    without: state whose tensors are not counted, where they appear in `state` too
    """
    left_out = _storages(without)
    return sum(size for storage, size in _storages(state).items() if storage not in left_out)


def _storages(state: Any) -> dict[int, int]:
    """Return {address: bytes} of the tensors in `state`."""
    sizes: dict[int, int] = {}

    def visit(value: Any) -> None:
        if isinstance(value, Tensor):
            sizes[value.data_ptr() or id(value)] = value.numel() * value.element_size()
        elif isinstance(value, dict):
            for entry in value.values():
                visit(entry)
        elif isinstance(value, list | tuple):
            for entry in value:
                visit(entry)

    visit(state)
    return sizes


def _encode(value: Any, tensors: dict[str, Tensor], place: str) -> Any:
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().cpu().contiguous().clone()
        return {"tensor": key}
    if isinstance(value, dict):
        return {"items": [[_scalar(k, place), _encode(v, tensors, f"{place}[{k!r}]")] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_encode(v, tensors, f"{place}[{i}]") for i, v in enumerate(value)]}
    return {"value": _scalar(value, place)}


def _scalar(value: Any, place: str) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise RunError(
        f"{place} is a {type(value).__name__}, which cannot be saved. "
        "state_dict() may hold tensors, numbers, strings, lists and dictionaries of them."
    )


def _decode(value: dict[str, Any], file: Any) -> Any:
    if "tensor" in value:
        return file.get_tensor(value["tensor"])
    if "items" in value:
        return {key: _decode(entry, file) for key, entry in value["items"]}
    if "list" in value:
        return [_decode(entry, file) for entry in value["list"]]
    if "tuple" in value:
        return tuple(_decode(entry, file) for entry in value["tuple"])
    return value["value"]
