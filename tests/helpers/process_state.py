"""What a library must leave as it found it: everything of a process that other code shares."""

import logging
import os
import random
import signal
import sys
import warnings
from pathlib import Path


def process_state():
    """Return the state by name; equal before and after means that nothing was disturbed."""
    import matplotlib
    import numpy as np
    import torch
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.version import VersionBase

    kind, keys, *rest = np.random.get_state()
    return {
        "threads": torch.get_num_threads(),
        "torch's generator": torch.get_rng_state().tolist(),
        "python's generator": random.getstate(),
        "numpy's generator": (kind, keys.tolist(), *rest),
        "default type": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warnings": list(warnings.filters),
        "signals": {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)},
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "arguments": list(sys.argv),
        "path": list(sys.path),
        "logging": (list(logging.root.handlers), logging.root.level),
        "matplotlib": dict(matplotlib.rcParams),
        "hydra": GlobalHydra.instance().hydra,
        "hydra's version": VersionBase.instance().getbase(),
        "config store": sorted(_leaves(ConfigStore.instance().repo)),
    }


def differences(before, after):
    """Return the names of what is not as it was."""
    return [name for name in before if before[name] != after[name]]


def _leaves(tree, prefix=""):
    for name, value in tree.items():
        yield from _leaves(value, f"{prefix}{name}/") if isinstance(value, dict) else [f"{prefix}{name}"]
