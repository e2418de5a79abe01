"""One thread for every test: the suite shares its cores, and spinning threads would fight over them."""

import os

os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_modifyitems(config, items):
    """Slow tests run only where they are asked for: `pytest -m slow`."""
    if not config.option.markexpr:
        kept = [item for item in items if "slow" not in item.keywords]
        config.hook.pytest_deselected(items=[item for item in items if "slow" in item.keywords])
        items[:] = kept
