"""How strategies of Avalanche are built on our network where their constructor alone is not enough.

A recipe names the function that builds it, and the one that counts what a step takes from tensors of its own.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from torch import nn

from cl_suite.avalanche.presence import load_avalanche
from cl_suite.core.errors import UsageError

if TYPE_CHECKING:
    from cl_suite.avalanche.strategy_builder import StrategyBuilder

NAIVE = "avalanche.training.supervised.strategy_wrappers:Naive"


def plain(builder: StrategyBuilder) -> Any:
    """The constructor, with our network."""
    return builder.make(builder.target, model=builder.model())


def none(inner: Any) -> int:
    """Everything comes from data sets."""
    return 0


def whole(builder: StrategyBuilder) -> Any:
    """DER keeps logits of outputs that open later, so all answer from the start (as in the Mammoth library)."""
    return builder.make(builder.target, model=builder.model(whole=True, task_aware=False))


def icarl(builder: StrategyBuilder) -> Any:
    """Backbone and heads apart: iCaRL trains both and answers by the nearest mean of features."""
    model = builder.model(task_aware=False)
    return builder.construct(
        builder.target,
        feature_extractor=model.extractor,
        classifier=model.classifier,
        optimizer=builder.optimizer(model),
        buffer_transform=None,
    )


def scr(builder: StrategyBuilder) -> Any:
    """Backbone and a projection of its features to 128 numbers, as in the paper; the heads are not used."""
    wide = builder.feature_dimension()
    projection = nn.Sequential(nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, 128))
    model = load_avalanche("avalanche.models:SCRModel")(builder.extractor, projection).to(builder.info.device)
    return builder.make(builder.target, model=model, augmentations=lambda inputs: inputs)


def by_means(classifier: str) -> Any:
    """Return the builder of finetuning whose answers come from a classifier that a plugin keeps up to date."""

    def build(builder: StrategyBuilder) -> Any:
        network = builder.model(task_aware=False)
        model = load_avalanche("avalanche.models:TrainEvalModel")(
            network.extractor, network.classifier, load_avalanche(f"avalanche.models:{classifier}")()
        ).to(builder.info.device)
        naive = load_avalanche(NAIVE)
        return builder.make(naive, model=model, plugins=[builder.target(**builder.arguments())])

    return build


def with_plugin(builder: StrategyBuilder) -> Any:
    """Finetuning with the plugin that the recipe names."""
    naive = load_avalanche(NAIVE)
    return builder.make(naive, model=builder.model(), plugins=[builder.target(**builder.arguments())])


def si(builder: StrategyBuilder) -> Any:
    """What it keeps must be copies; by itself it has none on a CPU, and a penalty of 0."""
    return builder.keep_copies(builder.make(builder.target, model=builder.model()))


def streaming_lda(builder: StrategyBuilder) -> Any:
    """On the features of the network as it was drawn: StreamingLDA trains none."""
    return builder.construct(
        builder.target,
        slda_model=builder.extractor,
        criterion=nn.CrossEntropyLoss(),
        input_size=builder.feature_dimension(),
        num_classes=builder.info.n_outputs,
    )


def cope(builder: StrategyBuilder) -> Any:
    """The heads' outputs are the embedding."""
    size = builder.info.n_outputs
    model = builder.model(whole=True, task_aware=False)
    return builder.make(builder.target, model=model, n_classes=size, p_size=size)


def gss(builder: StrategyBuilder) -> Any:
    """Its memory is one tensor of prepared samples."""
    model = builder.model(task_aware=False)
    return builder.make(builder.target, model=model, input_size=list(builder.info.input_shape))


def cwr_star(builder: StrategyBuilder) -> Any:
    """The layer that it consolidates is that of the heads."""
    model = builder.model(task_aware=False)
    return builder.make(builder.target, model=model, cwr_layer_name="classifier.linear")


def feature_replay(builder: StrategyBuilder) -> Any:
    """The layer that is trained on stored features is that of the heads; new samples compete among new classes."""
    masked = load_avalanche("avalanche.training.losses:MaskedCrossEntropy")(mask="new")
    model = builder.model(task_aware=False)
    optimizer = builder.optimizer(model)
    return builder.make(
        builder.target, model=model, optimizer=optimizer, criterion=masked, last_layer_name="classifier"
    )


def pnn(builder: StrategyBuilder) -> Any:
    """Avalanche's own network, which grows a column per task: one hidden layer as wide as our features."""
    model = load_avalanche("avalanche.models.pnn:PNN")(
        num_layers=1,
        in_features=prod(builder.info.input_shape),
        hidden_features_per_column=builder.feature_dimension(),
    ).to(builder.info.device)
    return builder.make(builder.target, model=model)


def packnet(builder: StrategyBuilder) -> Any:
    """Our network, its layers wrapped by Avalanche's PackNet, which is told the task."""
    if builder.options.post_prune_epochs >= builder.info.train.epochs:
        raise UsageError(
            f"strategy.post_prune_epochs={builder.options.post_prune_epochs} leaves none of train.epochs="
            f"{builder.info.train.epochs} before the pruning. Use fewer."
        )
    model = load_avalanche("avalanche.models.packnet:PackNetModel")(builder.model(task_aware=False))
    return builder.make(builder.target, model=model.to(builder.info.device))


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


BUILDERS = {
    "plain": plain,
    "whole": whole,
    "icarl": icarl,
    "scr": scr,
    "ncm": by_means("NCMClassifier"),
    "fecam": by_means("FeCAMClassifier"),
    "plugin": with_plugin,
    "si": si,
    "streaming_lda": streaming_lda,
    "cope": cope,
    "gss": gss,
    "cwr_star": cwr_star,
    "feature_replay": feature_replay,
    "pnn": pnn,
    "packnet": packnet,
}
ROWS = {"none": none, "gem": rows_of_gem, "gss": rows_of_gss, "features": rows_of_features}
