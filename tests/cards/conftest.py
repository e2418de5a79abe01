"""What tests of cards ask for."""

import json

import pytest


@pytest.fixture
def card(bench):
    """Return the card of a stream as JSON has it."""

    def ask(*arguments):
        status, out, err = bench("card", *arguments, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)

    return ask


@pytest.fixture
def unseen(monkeypatch):
    """Draw nothing: a second less."""
    monkeypatch.setattr("cl_suite.cards.make.draw_picture", lambda *of: (b"", "not asked for"))
