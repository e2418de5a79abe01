"""Evaluations of a run that a test puts together itself."""

from cl_suite.evaluation.registry import EVALUATIONS


def asked_of(strategy, scenario_stream, names):
    """Return {name: evaluation without options} as a harness takes them."""
    return {name: EVALUATIONS[name].evaluation(None, strategy, scenario_stream) for name in names}
