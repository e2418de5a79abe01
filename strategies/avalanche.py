"""Strategies of the library Avalanche by name, `--strategy avalanche/<name>`, and how each is built on our network.

Carta et al. 2023, "Avalanche: A PyTorch Library for Deep Continual Learning" (JMLR 24). Tried with its
release 0.6.0. Nothing of it is imported before one is chosen.
"""

from collections.abc import Mapping
from typing import Any

from cl_suite import (
    TOLD_BOUNDARIES,
    AvalancheRecipe,
    Requirement,
    UsageError,
    has_avalanche,
    load_avalanche,
    nearest,
    need_avalanche,
)

WRAPPERS = "avalanche.training.supervised.strategy_wrappers"
TOLD_NEW = TOLD_BOUNDARIES | {Requirement.NEW_CLASSES}
TOLD_ALL = TOLD_BOUNDARIES | {Requirement.TASK_ID_AT_TEST}


def untold(workshop: Any) -> Any:
    """Methods of Avalanche that have no form for task labels: the network is not told the task in training."""
    return workshop.make(workshop.target, model=workshop.model(told=False))


def whole(workshop: Any) -> Any:
    """DER keeps logits of outputs that open later, so all answer from the start (as in the Mammoth library)."""
    return workshop.make(workshop.target, model=workshop.model(whole=True, told=False))


def icarl(workshop: Any) -> Any:
    """Backbone and heads apart: iCaRL trains both and answers by the nearest mean of features."""
    model = workshop.model(told=False)
    return workshop.construct(
        workshop.target,
        feature_extractor=model.extractor,
        classifier=model.classifier,
        optimizer=workshop.optimizer(model),
        buffer_transform=None,
    )


def scr(workshop: Any) -> Any:
    """Backbone and a projection of its features to 128 numbers, as in the paper; the heads are not used."""
    from torch import nn

    wide = workshop.feature_dimension()
    projection = nn.Sequential(nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, 128))
    model = load_avalanche("avalanche.models:SCRModel")(workshop.extractor, projection).to(workshop.info.device)
    return workshop.make(workshop.target, model=model, augmentations=lambda inputs: inputs)


def by_means(classifier: str, plugin: str) -> Any:
    """Return the builder of finetuning whose answers come from a classifier that a plugin keeps up to date."""

    def build(workshop: Any) -> Any:
        network = workshop.model(told=False)
        model = load_avalanche("avalanche.models:TrainEvalModel")(
            network.extractor, network.classifier, load_avalanche(f"avalanche.models:{classifier}")()
        ).to(workshop.info.device)
        naive = load_avalanche(f"{WRAPPERS}:Naive")
        return workshop.make(naive, model=model, plugins=[load_avalanche(plugin)(**workshop.arguments())])

    return build


def with_plugin(workshop: Any) -> Any:
    """Finetuning with the plugin that the recipe names."""
    naive = load_avalanche(f"{WRAPPERS}:Naive")
    return workshop.make(naive, model=workshop.model(), plugins=[workshop.target(**workshop.arguments())])


def streaming_lda(workshop: Any) -> Any:
    """On the features of the network as it was drawn: StreamingLDA trains none."""
    from torch import nn

    return workshop.construct(
        workshop.target,
        slda_model=workshop.extractor,
        criterion=nn.CrossEntropyLoss(),
        input_size=workshop.feature_dimension(),
        num_classes=workshop.info.n_outputs,
    )


def cope(workshop: Any) -> Any:
    """The heads' outputs are the embedding."""
    size = workshop.info.n_outputs
    model = workshop.model(whole=True, told=False)
    return workshop.make(workshop.target, model=model, n_classes=size, p_size=size)


def gss(workshop: Any) -> Any:
    """Its memory is one tensor of prepared samples."""
    model = workshop.model(told=False)
    return workshop.make(workshop.target, model=model, input_size=list(workshop.info.input_shape))


def cwr_star(workshop: Any) -> Any:
    """The layer that it consolidates is that of the heads."""
    model = workshop.model(told=False)
    return workshop.make(workshop.target, model=model, cwr_layer_name="classifier.linear")


def feature_replay(workshop: Any) -> Any:
    """The layer that is trained on stored features is that of the heads; new samples compete among new classes."""
    masked = load_avalanche("avalanche.training.losses:MaskedCrossEntropy")(mask="new")
    model = workshop.model(told=False)
    optimizer = workshop.optimizer(model)
    return workshop.make(
        workshop.target, model=model, optimizer=optimizer, criterion=masked, last_layer_name="classifier"
    )


def pnn(workshop: Any) -> Any:
    """Avalanche's own network, which grows a column per task: one hidden layer as wide as our features."""
    from math import prod

    model = load_avalanche("avalanche.models.pnn:PNN")(
        num_layers=1,
        in_features=prod(workshop.info.input_shape),
        hidden_features_per_column=workshop.feature_dimension(),
    ).to(workshop.info.device)
    return workshop.make(workshop.target, model=model)


def packnet(workshop: Any) -> Any:
    """Our network, its layers wrapped by Avalanche's PackNet, which is told the task."""
    if workshop.options.post_prune_epochs >= workshop.info.train.epochs:
        raise UsageError(
            f"strategy.post_prune_epochs={workshop.options.post_prune_epochs} leaves none of train.epochs="
            f"{workshop.info.train.epochs} before the pruning. Use fewer."
        )
    model = load_avalanche("avalanche.models.packnet:PackNetModel")(workshop.model(told=False))
    return workshop.make(workshop.target, model=model.to(workshop.info.device))


def rows_of_gem(inner: Any) -> int:
    """GEM's step takes its whole memory of earlier experiences."""
    plugin = next(each for each in inner.plugins if hasattr(each, "memory_y"))
    return sum(len(targets) for targets in plugin.memory_y.values())


def rows_of_gss(inner: Any) -> int:
    """GSS compares a batch with the gradients of some batches from its memory."""
    plugin = next(each for each in inner.plugins if hasattr(each, "mem_strength"))
    batch, held = len(inner.mbatch[0]), plugin.ext_mem_list_current_index
    return min(plugin.mem_strength, held // batch) * min(batch, held)


def rows_of_features(inner: Any) -> int:
    """FeatureReplay's step takes stored features."""
    return inner.batch_size_mem if inner.replay_loader is not None else 0


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
        "avalanche.training.supervised:DER", "Avalanche: dark experience replay (beta > 0: DER++)", build=whole
    ),
    "gss_greedy": AvalancheRecipe(
        f"{WRAPPERS}:GSS_greedy",
        "Avalanche: replay, memory of diverse gradients",
        filled=("input_size",),
        build=gss,
        rows=rows_of_gss,
        prepared=True,
    ),
    "feature_replay": AvalancheRecipe(
        "avalanche.training.supervised:FeatureReplay",
        "Avalanche: replay of features to the last layer",
        filled=("last_layer_name",),
        build=feature_replay,
        rows=rows_of_features,
    ),
    "ewc": AvalancheRecipe(f"{WRAPPERS}:EWC", "Avalanche: elastic weight consolidation", defaults={"ewc_lambda": 0.4}),
    "si": AvalancheRecipe(
        f"{WRAPPERS}:SynapticIntelligence", "Avalanche: synaptic intelligence", defaults={"si_lambda": 0.1}
    ),
    "mas": AvalancheRecipe(f"{WRAPPERS}:MAS", "Avalanche: memory-aware synapses"),
    "rwalk": AvalancheRecipe("avalanche.training.plugins:RWalkPlugin", "Avalanche: Riemannian walk", build=with_plugin),
    "lwf": AvalancheRecipe(
        f"{WRAPPERS}:LwF", "Avalanche: learning without forgetting", defaults={"alpha": 1.0, "temperature": 2.0}
    ),
    "lfl": AvalancheRecipe(f"{WRAPPERS}:LFL", "Avalanche: less-forgetting learning", defaults={"lambda_e": 0.1}),
    "gem": AvalancheRecipe(
        f"{WRAPPERS}:GEM",
        "Avalanche: gradient episodic memory",
        defaults={"patterns_per_exp": 100},
        rows=rows_of_gem,
    ),
    "agem": AvalancheRecipe(f"{WRAPPERS}:AGEM", "Avalanche: averaged GEM", defaults={"patterns_per_exp": 100}),
    "icarl": AvalancheRecipe(
        "avalanche.training.supervised:ICaRL",
        "Avalanche: iCaRL, exemplars chosen by herding",
        requires=TOLD_NEW,
        filled=("feature_extractor", "classifier", "buffer_transform"),
        defaults={"memory_size": 500, "fixed_memory": True},
        build=icarl,
        at_end=True,
    ),
    "scr": AvalancheRecipe(
        "avalanche.training.supervised:SCR",
        "Avalanche: supervised contrastive replay",
        filled=("augmentations",),
        build=scr,
        at_end=True,
    ),
    "ncm": AvalancheRecipe(
        "avalanche.training.plugins:MemoryNCMUpdate",
        "Avalanche: finetuning, answers by the nearest class mean of a memory",
        filled=("storage_policy",),
        build=by_means("NCMClassifier", "avalanche.training.plugins:MemoryNCMUpdate"),
        at_end=True,
    ),
    "fecam": AvalancheRecipe(
        "avalanche.training.plugins:CurrentDataFeCAMUpdate",
        "Avalanche: finetuning, answers by Mahalanobis distance to class means",
        build=by_means("FeCAMClassifier", "avalanche.training.plugins:CurrentDataFeCAMUpdate"),
        at_end=True,
    ),
    "streaming_lda": AvalancheRecipe(
        "avalanche.training.supervised:StreamingLDA",
        "Avalanche: deep streaming LDA on features that stay as they are",
        filled=("slda_model", "input_size", "num_classes", "output_layer_name"),
        build=streaming_lda,
    ),
    "cwr_star": AvalancheRecipe(
        f"{WRAPPERS}:CWRStar",
        "Avalanche: CWR*, head weights consolidated over a frozen backbone",
        filled=("cwr_layer_name",),
        build=cwr_star,
    ),
    "cope": AvalancheRecipe(
        f"{WRAPPERS}:CoPE",
        "Avalanche: continual prototype evolution, each mini-batch an experience",
        filled=("n_classes", "p_size"),
        defaults={"momentum": 0.0, "lr": 0.003, "T": 1.0},  # at the paper's T = 0.1 the loss becomes NaN
        build=cope,
        mini=True,
    ),
    "pnn": AvalancheRecipe(
        f"{WRAPPERS}:PNNStrategy",
        "Avalanche: progressive networks, on an MLP of its own",
        TOLD_ALL,
        build=pnn,
        prepared=True,
    ),
    "packnet": AvalancheRecipe(
        f"{WRAPPERS}:PackNet",
        "Avalanche: PackNet",
        TOLD_ALL,
        defaults={"post_prune_epochs": 1, "prune_proportion": 0.5},
        build=packnet,
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
    from cl_suite import avalanche_strategy

    if name not in RECIPES and ":" not in name:
        usable = [f"avalanche/{each}" for each, recipe in RECIPES.items() if not recipe.broken]
        raise UsageError(
            f"strategy 'avalanche/{name}' is not known. {nearest(f'avalanche/{name}', usable)} "
            "A strategy of your own is avalanche/module:Class."
        )
    need_avalanche(f"strategy avalanche/{name}")
    recipe = RECIPES.get(name) or AvalancheRecipe(name, f"Avalanche: {name}")
    return avalanche_strategy(name, recipe, module=__name__)
