"""Joint: keep every sample, train once on all of them when the stream has ended. The upper bound."""

from typing import Any

from cl_suite import Experience, GradientStrategy, Predictor, Ring, StreamInfo, UnseenTask


class Joint(GradientStrategy):
    """Train once on the whole stream, for as many passes as the others get: the upper bound.

    It answers only after the last experience; earlier rows of R are null. What it keeps is counted as its state.
    """

    costs = "keeps every sample of the stream; one pass to store them, and as many training passes as finetuning"

    store: Ring | None = None

    def learn(self, experience: Experience) -> None:
        """Store the experience; at the last one train on everything stored."""
        store = self.memory(experience.epochs)
        for batch in experience.batches(epochs=1, augment=False, phase="store"):
            store.add(batch)
        self.model.heads.open(experience.classes)
        self.experiences_learned += 1
        if self.experiences_learned == self.info.n_experiences:
            self.renew_optimizer()
            self.train_on(experience, experience.batches(source=store, phase="joint", after_epoch=self.pass_ends))

    def epoch_steps(self, experience: Experience) -> int:
        """Return the steps of a pass over everything stored."""
        return -(-len(self.memory(experience.epochs)) // experience.batch_size)

    def pass_ends(self, epoch: int) -> bool:
        """Tell the learning-rate schedule: passes over a memory are no epochs of an experience."""
        if self.rate is not None:
            self.rate.after_epoch()
        return False

    def memory(self, epochs: int) -> Ring:
        """Return the store of every sample of the stream, made at first use."""
        if self.store is None:
            self.store = Ring(self.info.planned_samples // epochs, self.info, purpose="joint")
        return self.store

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return the network when the stream has ended. Raise UnseenTask before."""
        if self.experiences_learned < self.info.n_experiences:
            raise UnseenTask("joint answers only after the last experience")
        return super().predictor(task_id)

    def state_dict(self) -> dict[str, Any]:
        """Return network, progress and everything stored."""
        store = None if self.store is None else self.store.state_dict()
        return super().state_dict() | {"store": store, "capacity": 0 if self.store is None else self.store.capacity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        if state["store"] is not None:
            self.store = Ring(state["capacity"], self.info, purpose="joint")
            self.store.load_state_dict(state["store"])

    def expected_samples(self, info: StreamInfo) -> int:
        """Return one pass to store and the training passes."""
        return info.planned_samples + info.planned_samples // info.train.epochs
