"""FPF and k-FPF: what is frozen, when it happens, and what it equals at the edges (Zhao et al. 2023)."""

import pytest
import torch

from cl_suite import TrainSettings, UsageError
from cl_suite.core.scenario import Scenario
from cl_suite.networks.module_groups import module_groups, snapshot
from cl_suite.networks.network import build_network
from strategies.bounds.finetune import Finetune
from strategies.fpf.choose_modules import parse_modules, preset
from strategies.fpf.finetuning import Balanced
from strategies.fpf.fpf import FPF
from strategies.fpf.k_fpf import KFPF, ends_with_trigger, trigger_steps
from strategies.replay.der import DER
from strategies.replay.er import ER
from tests.helpers.image_streams import harness_of, run_of

SAMPLES = 3 * 48  # of the stream
SHORT = {"fpf_epochs": 2, "fpf_batch": 16}


def fpf(base, *, options=None, **others):
    """Return a configuration of FPF on top of the strategy `base`."""
    schema = FPF.config_for({"base": base})
    config = schema(base=base, **(SHORT | others))
    for name, value in (options or {}).items():
        setattr(config.base_options, name, value)
    return config


def around_finetuning(modules, model="conv_small"):
    """Return (network before, network after) the finetuning of FPF on ER at the end of a stream."""
    harness = harness_of(FPF, model=model, config=fpf("er", modules=modules))
    seen = {}

    original = FPF.setup

    def setup(self, info, build_model):
        original(self, info, build_model)
        finetune = self.finetuning.run

        def watched(*arguments):
            seen["before"] = snapshot(self.base.model)
            finetune(*arguments)
            seen["after"] = snapshot(self.base.model)

        self.finetuning.run = watched

    harness.strategy.setup = setup.__get__(harness.strategy)
    harness.run()
    return seen["before"], seen["after"], module_groups(harness.strategy.base.model)


@pytest.mark.parametrize("modules", ["fc", "bn", "conv1", "fc+bn+conv1", "bn_statistics"])
def test_modules_that_were_not_chosen_stay_bit_for_bit_what_they_were(modules):
    before, after, groups = around_finetuning(modules)
    chosen = parse_modules(modules, groups)
    for module, tensors in groups.items():
        moved = any(not torch.equal(before[name], after[name]) for name in tensors)
        assert moved == (module in chosen), module


def test_no_finetuning_at_all_is_plain_training():
    plain, k_zero = run_of(Finetune), run_of(KFPF, k=0)
    assert k_zero[0].R == plain[0].R
    assert all(
        torch.equal(a, b) for a, b in zip(plain[1].model.parameters(), k_zero[1].model.parameters(), strict=True)
    )


def test_one_finetuning_is_fpf_on_plain_training():
    # A memory of the whole stream: no reservoir draws anything.
    size = 2 * SAMPLES
    k_one, _ = run_of(KFPF, k=1, buffer_size=size, **SHORT)
    on_top, _ = run_of(FPF, config=fpf("finetune", own_buffer=size))
    plain, _ = run_of(Finetune)
    assert k_one.R == on_top.R
    assert k_one.R[:-1] == plain.R[:-1] and k_one.R[-1] != plain.R[-1]


def test_fpf_lifts_what_replay_has_not_used_up():
    # A small memory, many passes over the newest task: old classes are pushed away and come back.
    train = TrainSettings(epochs=6, batch_size=8)
    for base in (Finetune, ER):
        options = {"buffer_size": 24, "replay_batch": 2} if base is ER else {}
        name = "er" if base is ER else "finetune"
        plain = run_of(base, train=train, **options)[0].R[-1]
        config = fpf(name, options=options, own_buffer=0 if base is ER else 24, fpf_epochs=30, fpf_batch=8)
        lifted = run_of(FPF, train=train, config=config)[0].R[-1]
        assert sum(lifted) > sum(plain) + 0.2, name


def test_learning_goes_on_from_the_weights_before_a_finetuning():
    end, _ = run_of(FPF, config=fpf("er"))
    each, strategy = run_of(FPF, config=fpf("er", when="each"))
    base, _ = run_of(ER)
    assert each.R[-1] == end.R[-1]
    assert end.R[:-1] == base.R[:-1] != each.R[:-1]
    assert strategy.finetuning.runs == 3


def test_finetunings_are_spaced_over_the_stream_whatever_its_boundaries():
    info = harness_of(KFPF).scenario_stream.info
    assert info.planned_steps == 24  # 3 tasks, 2 epochs of 4 batches
    assert trigger_steps(KFPF.Config(k=5), info) == {4, 8, 12, 16}
    assert ends_with_trigger(KFPF.Config(k=5), info) == {2}
    assert trigger_steps(KFPF.Config(k=2, k_per_task=True), info) == {4, 8, 12, 16, 20}
    assert trigger_steps(KFPF.Config(every_steps=10), info) == {10, 20}
    aligned = KFPF.Config(k=2, align_to_task_end=True)
    assert (trigger_steps(aligned, info), ends_with_trigger(aligned, info)) == (set(), {1, 2})


@pytest.mark.parametrize("scenario", ["class_incremental", "task_agnostic"])
def test_there_are_k_finetunings_and_their_samples_are_counted(scenario):
    harness = harness_of(KFPF, scenario=scenario, k=4, buffer_size=20, fpf_epochs=3, fpf_batch=10)
    harness.run()
    assert harness.strategy.finetuning.runs == 4
    assert harness.meter.samples_replayed == 4 * 3 * 20
    info = harness.scenario_stream.info
    assert harness.meter.samples_drawn == harness.strategy.expected_samples(info) == info.planned_samples + 240


def test_a_finetuning_that_finds_less_than_a_batch_is_skipped_and_counted():
    harness = harness_of(KFPF, k=24, buffer_size=40, fpf_epochs=1, fpf_batch=30)
    harness.run()
    assert harness.strategy.diagnostics()["skipped"] == 2  # after 12 and 24 samples
    assert harness.strategy.diagnostics()["finetunings"] == 22


def test_the_hosts_momentum_is_not_touched():
    harness = harness_of(KFPF, k=2, **SHORT)
    seen = []

    def watched(strategy, run):
        def finetune(*arguments, **options):
            state = [s["momentum_buffer"].clone() for s in strategy.optimizer.state.values()]
            run(*arguments, **options)
            now = [s["momentum_buffer"] for s in strategy.optimizer.state.values()]
            seen.append(all(torch.equal(a, b) for a, b in zip(state, now, strict=True)))

        return finetune

    strategy, setup = harness.strategy, harness.strategy.setup

    def patched(info, build_model):
        setup(info, build_model)
        strategy.finetuning.run = watched(strategy, strategy.finetuning.run)

    strategy.setup = patched
    harness.run()
    assert seen == [True, True]
    assert all(parameter.requires_grad for parameter in strategy.model.parameters())


def test_distillation_holds_outputs_near_the_stored_ones():
    def distance(alpha):
        config = fpf("der", kd_alpha=alpha, modules="all", fpf_epochs=10)
        _, strategy = run_of(FPF, model="mlp", config=config)
        batch = strategy.buffer.batch_at(torch.arange(len(strategy.buffer)))
        _, outputs = strategy.base.both_outputs(batch.inputs, None)
        return float((outputs - batch.extras["logits"]).detach().square().mean())

    assert distance(10.0) < 0.5 * distance(0.0)
    assert "logits" in DER.buffer_extras


def test_k_fpf_stores_the_logits_of_the_step_before_its_update():
    harness = harness_of(KFPF, model="mlp", kd_alpha=0.3, k=1, buffer_size=SAMPLES, **SHORT)
    strategy, setup = harness.strategy, harness.strategy.setup
    stored = {}

    def patched(info, build_model):
        setup(info, build_model)
        add = strategy.buffer.add

        def watched(batch, **extras):
            stored.setdefault("first", extras["logits"].clone())
            stored.setdefault("inputs", batch.inputs.clone())
            add(batch, **extras)

        stored["untrained"] = [parameter.clone() for parameter in strategy.model.parameters()]
        strategy.buffer.add = watched

    strategy.setup = patched
    harness.run()
    with torch.no_grad():
        for parameter, value in zip(strategy.model.parameters(), stored["untrained"], strict=True):
            parameter.copy_(value)
        _, outputs = strategy.both_outputs(stored["inputs"], None)
    assert torch.allclose(stored["first"], outputs, atol=1e-6)
    assert stored["first"].isfinite().all()  # outputs of classes still to come too


def test_modules_are_chosen_by_measurement_on_the_first_experiences_only():
    _, strategy = run_of(KFPF, modules="auto", auto_top=2, auto_experiences=2, k=3, **SHORT)
    facts = strategy.diagnostics()
    assert len(set(facts["modules"]) - {"bn_statistics"}) == 2
    experiences = {number for number, _ in strategy.finetuning.changes.epochs}
    assert experiences == {0, 1}
    ranked = sorted(facts["sensitivity"], key=facts["sensitivity"].get, reverse=True)
    assert ranked[0] in facts["modules"] and ("bn" in facts["modules"]) == ("bn_statistics" in facts["modules"])


def test_finetunings_while_modules_are_measured_are_not_measured():
    quiet = run_of(KFPF, modules="auto", k=1, **SHORT)[1].finetuning.changes.epochs
    often = run_of(KFPF, modules="auto", k=6, fpf_epochs=4, fpf_batch=4)[1].finetuning.changes.epochs
    for name in ("conv1", "fc_weight"):
        ratio = often[0][1][name] / quiet[0][1][name]
        assert 0.5 < ratio < 1.5, (name, ratio)


@pytest.mark.parametrize("base", ["icarl", "gem"])
def test_a_memory_that_never_fills_is_finetuned_on_all_the_same(base):
    _, strategy = run_of(FPF, model="mlp", config=fpf(base, options={"buffer_size": 14}, fpf_batch=32))
    assert strategy.diagnostics()["fpf"]["finetunings"] == 1


def test_fpf_goes_on_bit_for_bit_in_every_form(tmp_path):
    class Stop(Exception):
        pass

    class StopAfterTwo:
        def __getattr__(self, name):
            return lambda *arguments: None

        def row(self, number, scores):
            if number == 1:
                raise Stop

    forms = {
        "k_fpf": fpf("k_fpf", when="each", options={"k": 4, "fpf_epochs": 2}),
        "measured": fpf("er", when="each", modules="auto"),
        "own": fpf("ewc", when="each", own_buffer=20),
    }
    for name, config in forms.items():
        straight = run_of(FPF, config=config)[0].R
        checkpoint = tmp_path / name
        with pytest.raises(Stop):
            harness_of(FPF, config=config, checkpoint=checkpoint, listener=StopAfterTwo()).run()
        assert straight == harness_of(FPF, config=config, checkpoint=checkpoint).run().R, name


def test_presets_take_what_the_network_has():
    resnet = module_groups(build_network("resnet18_reduced", (3, 32, 32), 10, width=4))
    mlp = module_groups(build_network("mlp", (1, 8, 8), 10))
    early = ["conv1", "bn", "bn_statistics"]
    assert preset(resnet, Scenario.DOMAIN_INCREMENTAL) == early
    assert set(preset(resnet, Scenario.CLASS_INCREMENTAL)) == {*early, "fc_weight", "fc_bias"}
    for scenario in Scenario:
        assert set(preset(mlp, scenario)) == {"fc_weight", "fc_bias"}


def test_every_class_of_the_memory_can_be_drawn_equally_often():
    _, strategy = run_of(ER, buffer_size=30)
    balanced = Balanced(strategy.buffer)
    raw, targets = balanced.take(torch.arange(len(balanced)))
    counts = targets.bincount()
    assert len(counts) == 6 and counts.min() == counts.max()
    kept, labels = strategy.buffer.take(torch.arange(len(strategy.buffer)))
    assert {tuple(x.flatten().tolist()) for x in raw} == {tuple(x.flatten().tolist()) for x in kept}
    assert len(labels) == 30


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (KFPF, {"k": 25}, "the stream has 24 steps"),
        (KFPF, {"k": -1}, "strategy.k=-1"),
        (KFPF, {"every_steps": 30}, "more than the 24 steps"),
        (KFPF, {"k": 4, "align_to_task_end": True}, "Use strategy.k=1 to 3"),
        (KFPF, {"modules": "fc+conv9"}, "no module 'conv9'. It has fc, bn, conv1, conv2, conv3"),
        (KFPF, {"buffer_size": 0}, "at least 1 sample"),
        (KFPF, {"fpf_lr": 0.0}, "strategy.fpf_lr=0.0"),
        (KFPF, {"fpf_schedule": "step"}, "strategy.fpf_schedule=step"),
        (KFPF, {"auto_budget": 1.5}, "strategy.auto_budget=1.5"),
        (FPF, {"config": fpf("finetune")}, "strategy.base=finetune keeps none. Add strategy.own_buffer"),
        (FPF, {"config": fpf("supsup")}, "finetunes one network, which supsup does not have"),
        (FPF, {"config": fpf("er", kd_alpha=0.1)}, "Use strategy.base=der"),
        (FPF, {"config": fpf("er", when="never")}, "strategy.when=never"),
        (FPF, {"config": fpf("finetune", own_buffer=-1)}, "strategy.own_buffer=-1"),
        (FPF, {"config": fpf("er", own_buffer=20)}, "strategy.base=er keeps a memory of its own"),
        (FPF, {"config": fpf("hat", own_buffer=20)}, "hat, which answers by more than its network"),
        (FPF, {"config": fpf("er", options={"buffer_size": 0})}, "Set strategy.base_options.buffer_size"),
        (KFPF, {"modules": "auto", "auto_experiences": 4}, "strategy.auto_experiences=4 is more"),
        (KFPF, {"every_steps": 4, "k_per_task": True}, "without strategy.k_per_task"),
    ],
)
def test_what_cannot_be_met_is_refused_before_training(cls, options, message):
    scenario = "task_incremental" if message.startswith(("hat", "finetunes one")) else "class_incremental"
    with pytest.raises(UsageError) as problem:
        harness_of(cls, scenario=scenario, **options).run()
    assert message in str(problem.value)
