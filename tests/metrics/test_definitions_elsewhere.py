"""The code of other libraries, where it is installed, reports what is said of it: `pytest -m slow`."""

from types import SimpleNamespace

import pytest

from cl_suite.metrics.definitions.catalogue import DEFINITIONS, Measured
from tests.helpers.golden_run import RISING, UNTRAINED, R


def drive(plugin, rows, untrained):
    """Let one of Avalanche's stream metrics see a run whose accuracies are `rows`, and return its last result."""
    torch = pytest.importorskip("torch")
    strategy = SimpleNamespace(eval_every=0, clock=SimpleNamespace(train_iterations=0))

    def enter(number):
        strategy.experience = SimpleNamespace(current_experience=number, origin_stream=SimpleNamespace(name="test"))

    def evaluate(row):
        plugin.before_eval(strategy)
        for number, score in enumerate(row):
            enter(number)
            plugin.before_eval_exp(strategy)
            strategy.mb_y = torch.zeros(100, dtype=torch.long)
            strategy.mb_output = torch.tensor(
                [[1.0, 0.0]] * round(100 * score) + [[0.0, 1.0]] * round(100 - 100 * score)
            )
            plugin.after_eval_iteration(strategy)
            plugin.after_eval_exp(strategy)
        plugin.eval_exp_id = -1
        if hasattr(plugin, "at_init"):
            plugin.at_init = False

    evaluate(untrained)
    for number, row in enumerate(rows):
        enter(number)
        plugin.before_training_exp(strategy)
        evaluate(row)
    return plugin.result()


@pytest.mark.slow
@pytest.mark.parametrize("rows", [R, RISING])
def test_avalanche_reports_what_is_said(rows):
    pytest.importorskip("avalanche")
    from avalanche.evaluation.metrics import StreamBWT, StreamForgetting
    from avalanche.evaluation.metrics.forward_transfer import StreamForwardTransfer

    run = Measured(rows, baseline=UNTRAINED[: len(rows)])
    for plugin, name in [
        (StreamForgetting(), "forgetting@first-last"),
        (StreamBWT(), "bwt@gem"),
        (StreamForwardTransfer(), "fwt@gem"),
    ]:
        assert drive(plugin, rows, run.baseline) == pytest.approx(DEFINITIONS[name].of(run).number)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [R, RISING, [[0.5, 0.1], [0.7, 0.9]]])
def test_continuum_reports_what_is_said(rows):
    pytest.importorskip("continuum")
    import numpy as np
    from continuum.metrics import metrics as theirs

    columns = range(len(rows))
    hits = [[np.arange(100) < round(100 * score) for score in row] for row in rows]
    predicted = [np.concatenate(row).astype(int) for row in hits]
    logged = (predicted, [np.ones(100 * len(rows), int)] * len(rows), [np.repeat(columns, 100)] * len(rows))
    for function, name in [
        (theirs.accuracy_A, "acc@diaz-rodriguez"),
        (theirs.backward_transfer, "bwt@continuum"),
        (theirs.positive_backward_transfer, "bwt+@continuum"),
        (theirs.remembering, "rem@continuum"),
        (theirs.forward_transfer, "fwt@continuum"),
        (theirs.forgetting, "forgetting@continuum"),
    ]:
        assert function(*logged) == pytest.approx(DEFINITIONS[name].of(Measured(rows)).number, abs=1e-12)
