"""What a plugin was written with before a name changed goes on working, with a warning that says what to write."""

import dataclasses

import pytest
import torch

import cl_suite
from benchmarks.toy.point_mass import point_mass_task
from cl_suite import GradientStrategy, PluginError, PrepareVectors, Samples, Score, Stream, StreamData, TaskData
from cl_suite.methods.replay_options import ReplayOptions
from cl_suite.robots import SuccessRate, imitation_task


class Solved:
    """A scorer."""

    count = 1

    def score(self, task, predictor):
        return Score(1.0, 1)


def task(**scorer):
    samples = Samples(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))
    return TaskData("one", samples, samples, ("a",), **scorer)


def test_a_stream_names_one_head_and_samples_outside():
    ood = Samples(torch.ones(2, 3), torch.zeros(2, dtype=torch.long))
    with pytest.warns(DeprecationWarning, match="StreamData\\(one_head=...\\) is now single_head=..."):
        data = StreamData((task(),), PrepareVectors(), one_head=True, outside=ood)
    assert data.single_head and data.ood is ood
    assert data.one_head and data.outside is ood
    assert dataclasses.replace(data, single_head=False).one_head is False


def test_a_task_names_its_measure():
    scorer = Solved()
    with pytest.warns(DeprecationWarning, match="scorer=..."):
        old = task(measure=scorer)
    assert old.scorer is scorer and old.measure is scorer


def test_a_scorer_that_is_not_handed_its_task_is_refused_in_a_line():
    class Acts:
        count = 1

        def score(self, act):
            return act

    with pytest.raises(PluginError, match="must take \\(task, predictor\\)"):
        task(scorer=Acts())


def test_a_success_rate_still_rolls_out_a_policy(monkeypatch):
    rate = SuccessRate(point_mass_task("up"), (0,), pool=None)
    monkeypatch.setattr(SuccessRate, "rollout", lambda self, policy: policy)
    with pytest.warns(DeprecationWarning, match="rollout"):
        assert rate.score("a policy") == "a policy"


def test_a_function_names_its_measure():
    with (
        pytest.warns(DeprecationWarning, match="imitation_task\\(measure=...\\)"),
        pytest.raises(TypeError, match="shown"),
    ):
        imitation_task("one", measure=None)


def test_class_variables_are_taken_over():
    with pytest.warns(DeprecationWarning, match="buffer_extras"):

        class Distils(GradientStrategy):
            kept_beside_samples = frozenset({"logits"})

    with pytest.warns(DeprecationWarning, match="out_of_distribution"):

        class Open(Stream):
            open_set = True

    assert Distils.buffer_extras == {"logits"} and Open.out_of_distribution


def test_a_public_name_is_found_under_its_former_one():
    with pytest.warns(DeprecationWarning, match="ReplayOptions"):
        assert cl_suite.RehearsalOptions is ReplayOptions


def test_a_field_is_replaced_by_its_former_name():
    data = StreamData((task(),), PrepareVectors(), single_head=True)
    with pytest.warns(DeprecationWarning, match="single_head"):
        assert not dataclasses.replace(data, one_head=False).single_head


def test_something_else_called_facts_is_refused_in_a_line():
    with pytest.raises(PluginError, match=r"Odd.facts is no StreamFacts"):

        class Odd(Stream):
            def facts(self):
                return 1


def test_an_unknown_keyword_is_still_one():
    with pytest.raises(TypeError, match="heads"):
        StreamData((task(),), PrepareVectors(), heads=1)
