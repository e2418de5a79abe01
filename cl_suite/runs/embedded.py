"""A run inside a program that is not ours (a notebook, a job server, a sweep with Hydra) leaves it as it was."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.version import VersionBase

# A run seeds the process's global generators and counts every optimiser's steps: two at once would disturb each other.
_one_run = threading.RLock()
TORCH_CACHE = "TORCHINDUCTOR_CACHE_DIR"  # torch sets it when an optimiser makes it load its compiler
_one_composition = threading.RLock()  # Hydra keeps what it composes from in globals


@contextmanager
def undisturbed() -> Iterator[None]:
    """Within it one run alone goes on; a second thread waits. Afterwards generators and threads are as before."""
    with _one_run:
        threads = torch.get_num_threads()
        python, numpy = random.getstate(), np.random.get_state()
        cache = os.environ.get(TORCH_CACHE)
        devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
        try:
            with torch.random.fork_rng(devices=devices):
                yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            torch.set_num_threads(threads)
            if cache is None:
                os.environ.pop(TORCH_CACHE, None)


@contextmanager
def own_hydra() -> Iterator[None]:
    """Within it Hydra is as if no other program used it; afterwards it is as that program left it."""
    with _one_composition:
        instances: dict[Any, Any] = Singleton._instances
        theirs = {each: instances.pop(each) for each in (GlobalHydra, VersionBase) if each in instances}
        Plugins.instance()  # the first time they put what they need into the store, for good
        store = ConfigStore.instance()
        before = _copied(store.repo)
        try:
            yield
        finally:
            store.repo = before
            for each in (GlobalHydra, VersionBase):
                instances.pop(each, None)
            instances.update(theirs)


def _copied(tree: Any) -> Any:
    """Return the folders of a config store anew; what lies in them is shared."""
    return {name: _copied(value) for name, value in tree.items()} if isinstance(tree, dict) else tree
