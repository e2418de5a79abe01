"""FPF on top of another strategy: when the stream ends, finetune the modules that forget, on its memory.

Zhao et al. 2023, "Does Continual Learning Equally Forget All Parameters?" (ICML, arXiv 2304.04158).
`strategy.base` is the strategy, its options are `strategy.base_options.<field>`. By default there is one finetuning,
after the last experience, as in the paper; earlier rows of R are the base strategy's own. With `strategy.when=each`
every row is measured after a finetuning, and learning goes on from the weights before it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, make_dataclass
from typing import Any

from torch import Tensor, nn

from cl_suite import (
    Buffer,
    Experience,
    GradientStrategy,
    Predictor,
    Requirement,
    Reservoir,
    Strategy,
    StreamInfo,
    TrainSettings,
    UsageError,
    check_choices,
    choose_strategy,
)
from strategies.fpf.finetuning import Finetuning, FinetuningOptions


class FPF(Strategy):
    """FPF (Zhao et al. 2023): any strategy with a memory; at the end its sensitive modules are finetuned on it."""

    source = "Zhao et al. 2023, arXiv 2304.04158"
    costs = "as its base; and fpf_epochs passes over the memory at the end, or after every experience with when=each"

    @dataclass
    class Config(FinetuningOptions):
        """Options of the finetuning and of what it comes on top of."""

        base: str = "er"  # a strategy; its options are base_options.<field>
        own_buffer: int = 0  # samples of a reservoir filled beside a base without memory; 0 = use the base's memory
        when: str = "end"  # end: once, after the last experience; each: after every one, on a copy

    @classmethod
    def config_for(cls, options: Mapping[str, Any]) -> type:
        """Return the schema with the base strategy's own as `base_options`."""
        base = options.get("base", cls.Config.base)
        if not isinstance(base, str):
            raise UsageError(f"strategy.base={base} is not the name of a strategy. Use for example strategy.base=er.")
        chosen = choose_strategy(base)
        if issubclass(chosen.cls, FPF):
            raise UsageError("fpf does not go on top of fpf. Use strategy.base=er, or another that replays.")
        schema = chosen.cls.config_for(options.get("base_options") or {})
        fields: list[tuple[str, type, Any]] = [("base_options", schema, field(default_factory=schema))]
        if chosen.from_file:  # an edited file is another configuration
            fields.append(("base_source", str, field(default=chosen.digest, metadata={"derived": True})))
        return make_dataclass("Config", fields, bases=(cls.Config,))

    @classmethod
    def requirements(cls, config: Any) -> frozenset[Requirement]:
        """What the base strategy needs."""
        return choose_strategy(config.base).cls.requirements(base_options(config))

    @classmethod
    def uses_validation(cls, config: Any, train: TrainSettings) -> bool:
        """Whether the base strategy does."""
        return choose_strategy(config.base).cls.uses_validation(base_options(config), train)

    @classmethod
    def early_stopping_refusal(cls, config: Any) -> str:
        """The base strategy's; a finetuning has a length of its own."""
        return choose_strategy(config.base).cls.early_stopping_refusal(base_options(config))

    @classmethod
    def starts_from_weights(cls, config: Any) -> bool:
        """As the base strategy does."""
        return choose_strategy(config.base).cls.starts_from_weights(base_options(config))

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.base: Any = choose_strategy(config.base).cls(base_options(config))

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Set the base strategy up. Raise UsageError if it has no network or no memory to finetune on."""
        c = self.config
        check_choices(c, {"when": ("end", "each")})
        self.info = info
        try:
            self.base.setup(info, build_model)
        except UsageError as problem:  # its options have another name here
            raise UsageError(str(problem).replace("strategy.", "strategy.base_options.")) from problem
        if not isinstance(self.base, GradientStrategy):
            raise UsageError(f"fpf finetunes one network, which {c.base} does not have. Use strategy.base=er.")
        self.buffer = self.memory()
        if c.kd_alpha and (c.own_buffer or "logits" not in self.base.buffer_extras):
            raise UsageError("strategy.kd_alpha needs logits in the base's memory. Use strategy.base=der or der++.")
        self.finetuning = Finetuning(c, info, lambda: self.base.model, self.base.both_outputs)
        self.before: dict[str, Tensor] = {}  # the network before a finetuning that learning is to forget

    def memory(self) -> Buffer:
        """Return the base's memory, or one of our own."""
        c = self.config
        if c.own_buffer < 0:
            raise UsageError(f"strategy.own_buffer={c.own_buffer} is a number of samples. Use 0 or more.")
        buffer = getattr(self.base, "buffer", None)
        if c.own_buffer:
            if buffer is not None:
                raise UsageError(f"strategy.base={c.base} keeps a memory of its own. Leave strategy.own_buffer out.")
            if type(self.base).predictor is not GradientStrategy.predictor:
                raise UsageError(
                    f"fpf cannot finetune {c.base}, which answers by more than its network. Use a base such as er."
                )
            return Reservoir(c.own_buffer, self.info, purpose="fpf")
        if not isinstance(buffer, Buffer):
            raise UsageError(
                f"fpf finetunes on a memory, and strategy.base={c.base} keeps none. Add strategy.own_buffer=500 "
                "(samples of a reservoir filled beside it), or use a base that replays, such as er or der++."
            )
        return buffer

    def learn(self, experience: Experience) -> None:
        """Let the base learn; finetune at the end of the stream, or of every experience."""
        if self.before:  # as if it had not been finetuned
            self.base.model.load_state_dict(self.before)
            self.before = {}
        if self.config.own_buffer:
            experience.watch(batch=self.buffer.add)
            if not experience.index and self.buffer.advice:
                experience.note(self.buffer.advice)
        self.finetuning.measure(experience)
        self.base.learn(experience)
        self.finetuning.choose(experience)
        last = experience.index == self.info.n_experiences - 1
        if not last and self.config.when == "end":
            return
        if not last:
            self.before = {name: value.clone() for name, value in self.base.model.state_dict().items()}
        self.finetuning.run(experience, self.buffer, self.info.objective.loss)
        self.base.network_changed(experience)

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return the base's predictor."""
        return self.base.predictor(task_id)

    def state_dict(self) -> dict[str, Any]:
        """Return the base's state, what is finetuned, and the network before a finetuning that is to be forgotten."""
        own = {"fpf_buffer": self.buffer.state_dict()} if self.config.own_buffer else {}
        return {
            **self.base.state_dict(),
            "fpf_finetuning": self.finetuning.state_dict(),
            "fpf_before": self.before,
            **own,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.base.load_state_dict(state)
        self.finetuning.load_state_dict(state["fpf_finetuning"])
        self.before = {name: value.to(self.info.device) for name, value in state["fpf_before"].items()}
        if self.config.own_buffer:
            self.buffer.load_state_dict(state["fpf_buffer"])

    def answers_logits(self) -> bool:
        """Whether the base's answers are logits."""
        return bool(self.base.answers_logits())

    def model_selection(self) -> str:
        """Return the base's."""
        return self.base.model_selection()

    def diagnostics(self) -> dict[str, Any]:
        """Return the base's facts, and what was finetuned and how often."""
        return self.base.diagnostics() | {"fpf": self.finetuning.diagnostics()}

    def training_facts(self) -> dict[str, Any]:
        """Return the base's."""
        return self.base.training_facts()

    def constraints(self) -> dict[str, float]:
        """Return the base's."""
        return self.base.constraints()

    def trained_network(self) -> nn.Module:
        """Return the base's network."""
        return self.base.trained_network()

    def model_parameters(self) -> int:
        """Return the base's."""
        return self.base.model_parameters()

    def expected_samples(self, info: StreamInfo) -> int:
        """Return the base's samples and those of the finetunings."""
        c = self.config
        capacity = c.own_buffer or getattr(self.base.config, "buffer_size", 0)
        runs = info.n_experiences if c.when == "each" else 1
        return self.base.expected_samples(info) + runs * c.fpf_epochs * min(capacity, info.planned_samples)


def base_options(config: Any) -> Any:
    """Return the base strategy's options: those of the configuration, or its defaults."""
    chosen = getattr(config, "base_options", None)
    return choose_strategy(config.base).cls.Config() if chosen is None else chosen
