"""What methods with a head for each task promise about it, whatever they do to the layers below."""

import pytest
import torch

from cl_suite import PrepareVectors, Samples, StreamData, TaskData
from cl_suite.conformance.case import states_equal
from tests.helpers.image_streams import image_stream
from tests.helpers.projection_streams import EachExperience


def assert_tasks_that_share_outputs_have_heads_of_their_own(cls, after_each, answers, **options):
    """Two tasks that contradict each other on one head are both learned, and the first answers as it did."""

    class Watched(cls):
        def setup(self, info, build_model):
            super().setup(info, build_model)
            self.heads_begun = [self.model.heads.linear.weight.detach().clone()]

        def start(self, experience):
            super().start(experience)
            self.heads_begun.append(self.model.heads.linear.weight.detach().clone())

    tasks = image_stream(n_tasks=2).tasks
    swapped = [Samples(part.inputs, 1 - part.targets) for part in (tasks[0].train, tasks[0].test)]
    data = StreamData((tasks[0], TaskData("swapped", *swapped, ("a", "b"))), PrepareVectors(), single_head=True)
    found, harness = after_each(answers, cls=Watched, data=data, **options)
    assert torch.equal(found[0][0], found[1][0])
    assert min(harness.results.R[1]) > 0.9
    built, first, second = harness.strategy.heads_begun
    assert torch.equal(built, first) and torch.equal(built, second)


def assert_a_task_is_trained_within_its_own_outputs(cls, after_each, answers):
    """After each step only the outputs of the task in training are finite."""

    class Watched(cls):
        def after_step(self, batch):
            super().after_step(batch)
            finite = self.logits(batch.inputs, None).isfinite().all(dim=0)
            assert finite.nonzero().flatten().tolist() == [2 * self.current, 2 * self.current + 1]

    after_each(answers, cls=Watched)


def assert_interrupted_it_goes_on_bit_for_bit(harness_of, folder, **options):
    """Stopped in its second experience and started again, it ends with the scores and the state of a straight run."""

    class Stop(Exception):
        pass

    def stop(experience):
        if experience == 1:
            raise Stop

    straight = harness_of(**options)
    straight.run()
    with pytest.raises(Stop):
        harness_of(checkpoint=folder / "state", listener=EachExperience(stop), **options).run()
    resumed = harness_of(checkpoint=folder / "state", **options)
    assert resumed.run().R == straight.results.R
    assert states_equal(resumed.strategy.state_dict(), straight.strategy.state_dict())
