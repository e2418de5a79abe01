"""The common training loop: the order of a step stands in one place, and epochs end between steps."""

import pytest
import torch

from cl_suite import GradientStrategy, TrainSettings
from tests.helpers.image_streams import harness_of, image_stream

TRAIN = TrainSettings(epochs=3, batch_size=12)
BATCHES = 2  # of an epoch of the stream's 24 samples


class Recorded(GradientStrategy):
    """Writes down what is called."""

    stop_after = 9

    def start(self, experience):
        self.calls = []
        experience.watch(batch=lambda batch: self.calls.append("used"), epoch=lambda: self.calls.append("epoch"))
        super().start(experience)

    def loss(self, batch):
        self.calls.append("loss")
        return super().loss(batch)

    def adjust_gradients(self, batch):
        assert self.model.training and any(p.grad is not None for p in self.model.parameters())
        self.calls.append("adjust")

    def after_step(self, batch):
        self.calls.append("step")

    def after_epoch(self, experience, epoch):
        self.calls.append(f"after {epoch}")
        self.model.eval()  # as one that looks at validation samples leaves it
        return epoch == self.stop_after


class StopsEarly(Recorded):
    """Ends after the second epoch."""

    stop_after = 2


STEP = ["loss", "adjust", "step", "used"]


@pytest.mark.parametrize(("cls", "epochs"), [(Recorded, 3), (StopsEarly, 2)])
def test_an_epoch_ends_when_its_last_step_is_over_and_counted(cls, epochs):
    harness = harness_of(cls, data=image_stream(n_tasks=1, count=24), model="mlp", train=TRAIN)
    harness.run()
    expected = [[*STEP * BATCHES, "epoch", f"after {epoch}"] for epoch in range(1, epochs + 1)]
    assert harness.strategy.calls == [call for epoch in expected for call in epoch]
    assert harness.meter.optimizer_steps == BATCHES * epochs


def test_looking_at_samples_after_an_epoch_is_no_operation_of_training():
    class Looks(Recorded):
        def after_epoch(self, experience, epoch):
            with torch.no_grad():
                self.model(torch.zeros(500, *self.info.input_shape))
            return False

    data = image_stream(n_tasks=1, count=24)
    plain, looking = (harness_of(cls, data=data, model="mlp", train=TRAIN) for cls in (Recorded, Looks))
    assert plain.run().R == looking.run().R
    assert plain.meter.training_flops == looking.meter.training_flops
