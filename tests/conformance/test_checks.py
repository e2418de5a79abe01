"""The conformance suite catches what it is for: each way to break a promise fails the check of that promise."""

import numpy as np
import pytest
import torch

from cl_suite import GradientStrategy, Strategy, UnseenTask, UsageError, check_strategy, restrict
from tests.helpers.slow import slow_but

TOLD, HIDDEN = ("task_incremental",), ("class_incremental",)  # the others would only repeat what these show


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


class RollsNumpyDice(GradientStrategy):
    """Its predictor draws from NumPy's global generator."""

    def predictor(self, task_id=None):
        answer = super().predictor(task_id)
        return lambda inputs: answer(inputs) + 0 * np.random.rand()


class StaysInEvaluation(GradientStrategy):
    """Its predictor leaves the network in evaluation mode, also in the middle of training."""

    def predictor(self, task_id=None):
        answer = super().predictor(task_id)
        self.model.eval()
        return answer


class CountsCalls(GradientStrategy):
    """Guesses the hidden task from the order in which it is asked."""

    calls = 0

    def predictor(self, task_id=None):
        answer = super().predictor(task_id)
        if task_id is not None:
            return answer
        guess = torch.arange(self.info.n_outputs) // 2 == self.calls % 3
        self.calls += 1
        return lambda inputs: answer(inputs) + 20.0 * guess


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


class ForgetsALittle(Forgetful):
    """The same, too little to change a score."""

    def finish(self, experience):
        self.strength += 1e-4


class AnswersNonsense(GradientStrategy):
    """Answers with zeros where it has learned nothing."""

    def predictor(self, task_id=None):
        return lambda inputs: torch.zeros(len(inputs), self.info.n_outputs)


class AnswersUnlearned(GradientStrategy):
    """Answers with zeros for a task that is still to come."""

    def predictor(self, task_id=None):
        if self.experiences_learned and task_id is not None and task_id not in self.tasks_learned:
            return lambda inputs: torch.zeros(len(inputs), self.info.n_outputs)
        return super().predictor(task_id)


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


class VanishingPenalty(SilentPenalty):
    """Declares its penalty only where it acts, which is the first experience alone."""

    def constraints(self):
        return {} if self.experiences_learned > 1 else {"penalty": 1.0}


class ExplodingPenalty(SilentPenalty):
    """A penalty that is not a number."""

    def constraints(self):
        return {"penalty": float("nan")}


class WrongShape(GradientStrategy):
    """Drops the batch axis of a single sample."""

    def predictor(self, task_id=None):
        answer = super().predictor(task_id)
        return lambda inputs: answer(inputs).squeeze(0)


class Lazy(GradientStrategy):
    """Learns nothing; its random network separates some of the clusters by luck."""

    def train_on(self, experience, batches):
        for _ in batches:
            continue


class KeepsAnObject(GradientStrategy):
    """Has a state that cannot be saved without pickle."""

    def state_dict(self):
        return super().state_dict() | {"optimizer": self.optimizer}


BROKEN = [
    (Careless, "same seed same R", "use info.generator"),
    (TrainsWhilePredicting, "evaluation changes nothing", "answered the same inputs differently"),
    (RollsDice, "evaluation changes nothing", "global generator of torch"),
    (RollsNumpyDice, "evaluation changes nothing", "global generator of numpy"),
    (StaysInEvaluation, "evaluation changes nothing", "in another mode"),
    (CountsCalls, "order of scoring", "have other scores"),
    (Forgetful, "continued equals a straight run", "ends with another R"),
    (ForgetsALittle, "continued equals a straight run", "ends in another state"),
    (ReadsClosed, "no experience is read after learn", "ClosedExperience"),
    (AnswersNonsense, "no answer for what is not learned", "before anything is learned"),
    (AnswersUnlearned, "no answer for what is not learned", "predictor(1) answers for a task"),
    (ReadsIds, "ids it does not ask for", "NoneType"),
    (SilentPenalty, "penalties and projections act", "penalty is 0.0 in experience 1"),
    (VanishingPenalty, "penalties and projections act", "penalty is 0.0 in experience 1"),
    (ExplodingPenalty, "penalties and projections act", "penalty is nan in experience 1"),
    (WrongShape, "logits are [B, n_outputs]", "where (1, 6)"),
    (Lazy, "learns above chance", "needs no learning"),
    (KeepsAnObject, "saved without pickle", "cannot be saved"),
]
SHOWN_WHERE_TASKS_ARE_TOLD = {AnswersUnlearned}  # which asks for the id; in class_incremental it keeps its promises


# Another way to break the same promise as one of the others.
ANOTHER_WAY = (RollsDice, RollsNumpyDice, StaysInEvaluation, ForgetsALittle, AnswersUnlearned)
ANOTHER_WAY += (VanishingPenalty, ExplodingPenalty)


@pytest.mark.parametrize(
    ("strategy", "promise", "message"),
    slow_but([each for each in BROKEN if each[0] not in ANOTHER_WAY], BROKEN),
    ids=[each[0].__name__ for each in BROKEN],
)
def test_a_broken_promise_is_found(strategy, promise, message):
    scenarios = TOLD if strategy in SHOWN_WHERE_TASKS_ARE_TOLD else HIDDEN
    failed = [finding for finding in check_strategy(strategy, scenarios=scenarios) if finding.failed]
    assert any(promise in finding.name and message in finding.detail for finding in failed), [str(f) for f in failed]


def test_what_learns_nothing_fails_in_every_scenario():
    learns = [finding for finding in check_strategy(Lazy) if "learns above chance" in finding.name]
    assert [finding.status for finding in learns] == ["failed"] * 4


class NearestMean(Strategy):
    """Honest, without a network, an optimiser or anything that a seed decides."""

    def setup(self, info, build_model):
        self.info = info
        self.sums = torch.zeros(info.n_outputs, *info.input_shape)
        self.counts = torch.zeros(info.n_outputs)

    def learn(self, experience):
        for batch in experience.batches(epochs=1, augment=False):
            self.sums.index_add_(0, batch.targets, batch.inputs)
            self.counts += torch.bincount(batch.targets, minlength=len(self.counts))

    def predictor(self, task_id=None):
        known = self.counts > 0
        if task_id is not None:
            known = known & torch.isin(torch.arange(len(known)), torch.tensor(self.info.task_classes[task_id]))
        if not known.any():
            raise UnseenTask("no class of it has been seen")
        means = self.sums / self.counts.clamp(min=1)[:, None]
        return lambda inputs: restrict(-torch.cdist(inputs, means), known)

    def state_dict(self):
        return {"sums": self.sums, "counts": self.counts}

    def load_state_dict(self, state):
        self.sums, self.counts = state["sums"].clone(), state["counts"].clone()


class Finetuning(GradientStrategy):
    """The plainest strategy there is."""


@pytest.mark.parametrize("strategy", [Finetuning, NearestMean])
def test_an_honest_strategy_passes_in_every_scenario(strategy):
    findings = check_strategy(strategy)
    assert not [str(finding) for finding in findings if finding.failed]
    assert len({finding.name.partition(":")[0] for finding in findings}) == 1 + 4


def test_a_finding_is_one_line_that_says_where():
    findings = check_strategy(ReadsIds, scenarios=["class_incremental"])
    assert all("\n" not in str(finding) for finding in findings)
    (ids,) = [finding for finding in findings if "ids it does not ask for" in finding.name]
    assert "test_checks.py, line" in ids.detail


class AsksVaguely(GradientStrategy):
    """Names its needs in words the suite does not know."""

    requires = ["task ids"]


class CannotSay(GradientStrategy):
    """Fails when asked what it needs."""

    @classmethod
    def requirements(cls, config):
        return cls.needs_of[config]


@pytest.mark.parametrize(
    ("strategy", "message"), [(AsksVaguely, "return a frozenset of Requirement"), (CannotSay, "AttributeError")]
)
def test_requirements_that_cannot_be_read_are_a_finding(strategy, message):
    (finding,) = check_strategy(strategy)
    assert finding.failed and message in finding.detail


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overrides": ["train.epochs=1"]}, "train.epochs=1' has no effect"),
        ({"overrides": ["strategy.lrr=1"]}, "strategy.lr"),
        ({"scenarios": ["class_incrmental"]}, "Did you mean class_incremental"),
    ],
)
def test_a_wrong_request_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        check_strategy(Finetuning, **options)
