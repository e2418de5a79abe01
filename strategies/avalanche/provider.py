"""Strategies of the library Avalanche by name, `--strategy avalanche/<name>`, and how each is built on our network.

Carta et al. 2023, "Avalanche: A PyTorch Library for Deep Continual Learning" (JMLR 24). Tried with its
release 0.6.0. Nothing of it is imported before one is chosen.
"""

from collections.abc import Mapping

from cl_suite import Requirement, UsageError, nearest
from cl_suite.avalanche import TOLD_BOUNDARIES, AvalancheRecipe, has_avalanche, need_avalanche

WRAPPERS = "avalanche.training.supervised.strategy_wrappers"
TOLD_NEW = TOLD_BOUNDARIES | {Requirement.NEW_CLASSES}
TOLD_ALL = TOLD_BOUNDARIES | {Requirement.TASK_ID_AT_TEST}


OWN_NETWORK = "it brings a pretrained network of its own, whose weights it downloads, and cannot train the run's"
RECIPES: dict[str, AvalancheRecipe] = {
    "naive": AvalancheRecipe(f"{WRAPPERS}:Naive", "Avalanche: finetuning"),
    "cumulative": AvalancheRecipe("avalanche.training.supervised:Cumulative", "Avalanche: train on all data so far"),
    "joint_training": AvalancheRecipe(
        "avalanche.training.supervised:JointTraining",
        "Avalanche: a fresh network for each experience, trained on all so far at once",
        anew=True,
    ),
    "from_scratch_training": AvalancheRecipe(f"{WRAPPERS}:FromScratchTraining", "Avalanche: forget all, train anew"),
    "replay": AvalancheRecipe(f"{WRAPPERS}:Replay", "Avalanche: experience replay, memory balanced over experiences"),
    "gdumb": AvalancheRecipe(f"{WRAPPERS}:GDumb", "Avalanche: train anew on a class-balanced memory"),
    "er_ace": AvalancheRecipe("avalanche.training.supervised:ER_ACE", "Avalanche: replay, asymmetric cross-entropy"),
    "mir": AvalancheRecipe(
        f"{WRAPPERS}:MIR",
        "Avalanche: replay of what the step would interfere with most",
        requires=TOLD_NEW,  # it replays no class of the latest batch: nothing, where tasks share classes
        defaults={"mem_size": 200, "subsample": 50, "batch_size_mem": 10},
    ),
    "mer": AvalancheRecipe("avalanche.training.supervised:MER", "Avalanche: meta-experience replay (Reptile)"),
    "der": AvalancheRecipe(
        "avalanche.training.supervised:DER", "Avalanche: dark experience replay (beta > 0: DER++)", build="whole"
    ),
    "gss_greedy": AvalancheRecipe(
        f"{WRAPPERS}:GSS_greedy",
        "Avalanche: replay, memory of diverse gradients",
        filled=("input_size",),
        build="gss",
        rows="gss",
        prepared=True,
    ),
    "feature_replay": AvalancheRecipe(
        "avalanche.training.supervised:FeatureReplay",
        "Avalanche: replay of features to the last layer",
        filled=("last_layer_name",),
        build="feature_replay",
        rows="features",
    ),
    "ewc": AvalancheRecipe(
        f"{WRAPPERS}:EWC",
        "Avalanche: elastic weight consolidation",
        defaults={"ewc_lambda": 1000.0},  # its Fisher is 1/batch_size of that of single samples
        penalty="EWC penalty",
    ),
    "si": AvalancheRecipe(
        f"{WRAPPERS}:SynapticIntelligence",
        "Avalanche: synaptic intelligence",
        defaults={"si_lambda": 0.1},
        build="si",
        penalty="SI penalty",
    ),
    "mas": AvalancheRecipe(f"{WRAPPERS}:MAS", "Avalanche: memory-aware synapses", penalty="MAS penalty"),
    "rwalk": AvalancheRecipe(
        "avalanche.training.plugins:RWalkPlugin",
        "Avalanche: Riemannian walk",
        build="plugin",
        penalty="RWalk penalty",
    ),
    "lwf": AvalancheRecipe(
        f"{WRAPPERS}:LwF",
        "Avalanche: learning without forgetting",
        defaults={"alpha": 1.0, "temperature": 2.0},
        penalty="LwF distillation",
    ),
    "lfl": AvalancheRecipe(
        f"{WRAPPERS}:LFL",
        "Avalanche: less-forgetting learning",
        defaults={"lambda_e": 1.0},
        penalty="LFL distance of features",
    ),
    "gem": AvalancheRecipe(
        f"{WRAPPERS}:GEM",
        "Avalanche: gradient episodic memory",
        defaults={"patterns_per_exp": 100},
        rows="gem",
    ),
    "agem": AvalancheRecipe(f"{WRAPPERS}:AGEM", "Avalanche: averaged GEM", defaults={"patterns_per_exp": 100}),
    "icarl": AvalancheRecipe(
        "avalanche.training.supervised:ICaRL",
        "Avalanche: iCaRL, exemplars chosen by herding",
        requires=TOLD_NEW,
        filled=("feature_extractor", "classifier", "buffer_transform"),
        defaults={"memory_size": 500, "fixed_memory": True},
        build="icarl",
        at_end=True,
    ),
    "scr": AvalancheRecipe(
        "avalanche.training.supervised:SCR",
        "Avalanche: supervised contrastive replay",
        filled=("augmentations",),
        build="scr",
        at_end=True,
    ),
    "ncm": AvalancheRecipe(
        "avalanche.training.plugins:MemoryNCMUpdate",
        "Avalanche: finetuning, answers by the nearest class mean of a memory",
        filled=("storage_policy",),
        build="ncm",
        at_end=True,
    ),
    "fecam": AvalancheRecipe(
        "avalanche.training.plugins:CurrentDataFeCAMUpdate",
        "Avalanche: finetuning, answers by Mahalanobis distance to class means",
        build="fecam",
        at_end=True,
    ),
    "streaming_lda": AvalancheRecipe(
        "avalanche.training.supervised:StreamingLDA",
        "Avalanche: deep streaming LDA on features that stay as they are",
        filled=("slda_model", "input_size", "num_classes", "output_layer_name"),
        build="streaming_lda",
    ),
    "cwr_star": AvalancheRecipe(
        f"{WRAPPERS}:CWRStar",
        "Avalanche: CWR*, head weights consolidated over a frozen backbone",
        filled=("cwr_layer_name",),
        build="cwr_star",
    ),
    "cope": AvalancheRecipe(
        f"{WRAPPERS}:CoPE",
        "Avalanche: continual prototype evolution, each mini-batch an experience",
        filled=("n_classes", "p_size"),
        defaults={"momentum": 0.0, "lr": 0.003, "T": 1.0, "alpha": 0.9},  # with its T = 0.1 the loss becomes NaN
        build="cope",
        mini=True,
    ),
    "pnn": AvalancheRecipe(
        f"{WRAPPERS}:PNNStrategy",
        "Avalanche: progressive networks, on an MLP of its own",
        TOLD_ALL,
        build="pnn",
        prepared=True,
    ),
    "packnet": AvalancheRecipe(
        f"{WRAPPERS}:PackNet",
        "Avalanche: PackNet",
        TOLD_ALL,
        defaults={"post_prune_epochs": 1, "prune_proportion": 0.5},
        build="packnet",
        at_end=True,
    ),
    "bic": AvalancheRecipe(
        f"{WRAPPERS}:BiC",
        "Avalanche: bias correction",
        broken="Avalanche 0.6.0 gives MultiStepLR an argument (verbose) that this torch does not have",
    ),
    "ar1": AvalancheRecipe("avalanche.training.supervised:AR1", "Avalanche: AR1", broken=OWN_NETWORK),
    "expert_gate": AvalancheRecipe("avalanche.training.supervised:ExpertGateStrategy", "Avalanche", broken=OWN_NETWORK),
    "learning_to_prompt": AvalancheRecipe(
        "avalanche.training.supervised:LearningToPrompt", "Avalanche", broken=OWN_NETWORK
    ),
    "er_aml": AvalancheRecipe(
        "avalanche.training.supervised:ER_AML",
        "Avalanche: replay, asymmetric metric learning",
        broken="Avalanche 0.6.0 does not return from a step whose memory lacks a class",
    ),
    "generative_replay": AvalancheRecipe(
        f"{WRAPPERS}:GenerativeReplay",
        "Avalanche: replay of what a generator draws",
        broken="its generator makes grey 28x28 images in [0, 1], not what the run's network reads",
    ),
    "la_maml": AvalancheRecipe(
        "avalanche.training.supervised.lamaml:LaMAML",
        "Avalanche: La-MAML",
        broken="it needs a network of Avalanche's meta modules, and cannot train the run's",
    ),
}


def names() -> Mapping[str, str]:
    """Return what runs, {name: one line}; nothing where Avalanche is absent. Avalanche is not imported."""
    return {name: each.summary for name, each in RECIPES.items() if not each.broken} if has_avalanche() else {}


def load(name: str) -> type:
    """Return the strategy `avalanche/<name>`: of the table, or a user's own strategy in Avalanche as `module:Class`.

    Raise UsageError for an unknown name, one that cannot run, or where Avalanche is absent.
    """
    from cl_suite.avalanche import avalanche_strategy

    if name not in RECIPES and ":" not in name:
        usable = [f"avalanche/{each}" for each, recipe in RECIPES.items() if not recipe.broken]
        raise UsageError(
            f"strategy 'avalanche/{name}' is not known. {nearest(f'avalanche/{name}', usable)} "
            "A strategy of your own is avalanche/module:Class."
        )
    need_avalanche(f"strategy avalanche/{name}")
    recipe = RECIPES.get(name) or AvalancheRecipe(name, f"Avalanche: {name}")
    return avalanche_strategy(name, recipe, module=__name__)
