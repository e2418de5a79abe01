"""The conformance suite catches what it is for: each way to break a promise fails the check of that promise."""

import pytest
import torch

from cl_suite import GradientStrategy, check_strategy


class Careless(GradientStrategy):
    """Draws from an unseeded generator of its own."""

    def loss(self, batch):
        noise = torch.Generator()
        noise.seed()
        return (
            super().loss(batch) + 0.1 * torch.rand((), generator=noise) * self.model.heads.linear.weight.square().sum()
        )


class TrainsWhilePredicting(GradientStrategy):
    """Its predictor leaves a trace."""

    def predictor(self, task_id=None):
        answer = super().predictor(task_id)

        def predict(inputs):
            self.model.heads.linear.bias.data += 0.01
            return answer(inputs)

        return predict


class RollsDice(GradientStrategy):
    """Its predictor draws from torch's global generator."""

    def predictor(self, task_id=None):
        answer = super().predictor(task_id)
        return lambda inputs: answer(inputs) + 0 * torch.rand(1)


class Forgetful(GradientStrategy):
    """Leaves out of its state what its learning depends on."""

    def setup(self, info, build_model):
        super().setup(info, build_model)
        self.strength = 0.0

    def loss(self, batch):
        return super().loss(batch) + self.strength * self.model.heads.linear.weight.square().sum()

    def finish(self, experience):
        self.strength += 0.5


class ReadsClosed(GradientStrategy):
    """Keeps the first experience and reads it again later."""

    first = None

    def start(self, experience):
        super().start(experience)
        if self.first is not None:
            next(iter(self.first.batches(epochs=1)))
        self.first = experience


class AnswersNonsense(GradientStrategy):
    """Answers with zeros where it has learned nothing."""

    def predictor(self, task_id=None):
        return lambda inputs: torch.zeros(len(inputs), self.info.n_outputs)


class ReadsIds(GradientStrategy):
    """Needs task ids and does not say so."""

    def loss(self, batch):
        return super().loss(batch) + 0.0 * batch.task_ids.sum()


class SilentPenalty(GradientStrategy):
    """An EWC-like penalty whose importance is never filled in."""

    def setup(self, info, build_model):
        super().setup(info, build_model)
        self.importance = 0.0

    def loss(self, batch):
        return super().loss(batch) + self.importance * self.model.heads.linear.weight.square().sum()

    def constraints(self):
        return {"penalty": self.importance}


class WrongShape(GradientStrategy):
    """Drops the batch axis of a single sample."""

    def predictor(self, task_id=None):
        answer = super().predictor(task_id)
        return lambda inputs: answer(inputs).squeeze(0)


class Lazy(GradientStrategy):
    """Learns nothing."""

    def train_on(self, experience, batches):
        for _ in batches:
            continue

    def finish(self, experience):
        self.model.heads.linear.weight.data.zero_()
        self.model.heads.linear.bias.data.zero_()


class KeepsAnObject(GradientStrategy):
    """Has a state that cannot be saved without pickle."""

    def state_dict(self):
        return super().state_dict() | {"optimizer": self.optimizer}


BROKEN = [
    (Careless, "same seed same R", "use info.generator"),
    (TrainsWhilePredicting, "evaluation changes nothing", "answered the same inputs differently"),
    (RollsDice, "evaluation changes nothing", "global generator"),
    (Forgetful, "continued equals a straight run", "ends with another R"),
    (ReadsClosed, "no experience is read after learn", "ClosedExperience"),
    (AnswersNonsense, "no answer for what is not learned", "raise UnseenTask"),
    (ReadsIds, "ids it does not ask for", "NoneType"),
    (SilentPenalty, "penalties and projections act", "penalty is 0.0 in experience 1"),
    (WrongShape, "logits are [B, n_outputs]", "where (1, 6)"),
    (Lazy, "learns above chance", "chance is"),
    (KeepsAnObject, "saved without pickle", "cannot be saved"),
]


@pytest.mark.parametrize(("strategy", "promise", "message"), BROKEN, ids=[each[0].__name__ for each in BROKEN])
def test_a_broken_promise_is_found(strategy, promise, message):
    failed = [finding for finding in check_strategy(strategy) if finding.failed]
    assert any(promise in finding.name and message in finding.detail for finding in failed), [str(f) for f in failed]


def test_an_honest_strategy_passes():
    class Honest(GradientStrategy):
        """As it should be."""

    assert not [str(finding) for finding in check_strategy(Honest) if finding.failed]


def test_a_finding_is_one_line():
    findings = check_strategy(WrongShape)
    assert all("\n" not in str(finding) for finding in findings)
