"""A run that is stopped on its way, as an interruption stops it: what was saved before stays."""

import pytest


class Interrupted(Exception):
    """What ends it."""


def run_and_interrupt(harness, *, after):
    """Run a harness that has a checkpoint until `after` experiences are learned and saved."""
    save = harness._save

    def stop(done):
        save(done)
        if done == after:
            raise Interrupted

    harness._save = stop
    with pytest.raises(Interrupted):
        harness.run()
