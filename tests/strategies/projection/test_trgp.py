"""TRGP: old tasks are answered by the scalings they kept."""

import torch

from strategies.projection.trgp import TRGP
from tests.helpers.projection_streams import (
    EVERYTHING,
    low_rank_stream,
    run_of,
    snapshots,
)


def test_trgp_answers_old_tasks_as_when_they_were_learned():
    """The kept scaling on the final weights gives task 1, which reused task 0, the logits it had."""
    inputs = low_rank_stream().tasks[1].test.inputs

    def answers(strategy):
        return strategy.predictor(1)(inputs)[:, 2:4] if len(strategy.tasks_learned) > 1 else None

    (_, learned, later), strategy = snapshots(TRGP, answers, **EVERYTHING, eps1=0.0, hidden=(40,))
    assert torch.allclose(later, learned, atol=1e-5)
    Qs = strategy.projection.reuse.state_dict()["1"]["backbone.1"]
    assert [entry["task"] for entry in Qs] == [0]
    assert not torch.allclose(Qs[0]["Q"], torch.eye(len(Qs[0]["Q"])), atol=1e-4)  # the scaling was learned
    with strategy.projection.network.scaled({}):
        plain = strategy.model(inputs)[:, 2:4]
    assert not torch.allclose(plain, learned, atol=1e-4)  # and it matters


def test_the_released_program_scales_no_layer_where_the_first_is_not_scaled():
    _, strategy = run_of(TRGP, eps1=0.0)
    reuse = strategy.projection.reuse
    reuse._matrices[2].pop("backbone.1")
    assert set(reuse.of(2)) == {"backbone.3"}
    reuse._code_compat = True
    assert reuse.of(2) == {}
    assert strategy.projection.freezes_norms
    assert not run_of(TRGP, code_compat=True)[1].projection.freezes_norms
