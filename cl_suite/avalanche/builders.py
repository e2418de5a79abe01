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
    from cl_suite.avalanche.workshop import Workshop

NAIVE = "avalanche.training.supervised.strategy_wrappers:Naive"


def plain(workshop: Workshop) -> Any:
    """The constructor, with our network."""
    return workshop.make(workshop.target, model=workshop.model())


def none(inner: Any) -> int:
    """Everything comes from data sets."""
    return 0


def whole(workshop: Workshop) -> Any:
    """DER keeps logits of outputs that open later, so all answer from the start (as in the Mammoth library)."""
    return workshop.make(workshop.target, model=workshop.model(whole=True, told=False))


def icarl(workshop: Workshop) -> Any:
    """Backbone and heads apart: iCaRL trains both and answers by the nearest mean of features."""
    model = workshop.model(told=False)
    return workshop.construct(
        workshop.target,
        feature_extractor=model.extractor,
        classifier=model.classifier,
        optimizer=workshop.optimizer(model),
        buffer_transform=None,
    )


def scr(workshop: Workshop) -> Any:
    """Backbone and a projection of its features to 128 numbers, as in the paper; the heads are not used."""
    wide = workshop.feature_dimension()
    projection = nn.Sequential(nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, 128))
    model = load_avalanche("avalanche.models:SCRModel")(workshop.extractor, projection).to(workshop.info.device)
    return workshop.make(workshop.target, model=model, augmentations=lambda inputs: inputs)


def by_means(classifier: str) -> Any:
    """Return the builder of finetuning whose answers come from a classifier that a plugin keeps up to date."""

    def build(workshop: Workshop) -> Any:
        network = workshop.model(told=False)
        model = load_avalanche("avalanche.models:TrainEvalModel")(
            network.extractor, network.classifier, load_avalanche(f"avalanche.models:{classifier}")()
        ).to(workshop.info.device)
        naive = load_avalanche(NAIVE)
        return workshop.make(naive, model=model, plugins=[workshop.target(**workshop.arguments())])

    return build


def with_plugin(workshop: Workshop) -> Any:
    """Finetuning with the plugin that the recipe names."""
    naive = load_avalanche(NAIVE)
    return workshop.make(naive, model=workshop.model(), plugins=[workshop.target(**workshop.arguments())])


def si(workshop: Workshop) -> Any:
    """What it keeps must be copies; by itself it has none on a CPU, and a penalty of 0."""
    return workshop.keep_copies(workshop.make(workshop.target, model=workshop.model()))


def streaming_lda(workshop: Workshop) -> Any:
    """On the features of the network as it was drawn: StreamingLDA trains none."""
    return workshop.construct(
        workshop.target,
        slda_model=workshop.extractor,
        criterion=nn.CrossEntropyLoss(),
        input_size=workshop.feature_dimension(),
        num_classes=workshop.info.n_outputs,
    )


def cope(workshop: Workshop) -> Any:
    """The heads' outputs are the embedding."""
    size = workshop.info.n_outputs
    model = workshop.model(whole=True, told=False)
    return workshop.make(workshop.target, model=model, n_classes=size, p_size=size)


def gss(workshop: Workshop) -> Any:
    """Its memory is one tensor of prepared samples."""
    model = workshop.model(told=False)
    return workshop.make(workshop.target, model=model, input_size=list(workshop.info.input_shape))


def cwr_star(workshop: Workshop) -> Any:
    """The layer that it consolidates is that of the heads."""
    model = workshop.model(told=False)
    return workshop.make(workshop.target, model=model, cwr_layer_name="classifier.linear")


def feature_replay(workshop: Workshop) -> Any:
    """The layer that is trained on stored features is that of the heads; new samples compete among new classes."""
    masked = load_avalanche("avalanche.training.losses:MaskedCrossEntropy")(mask="new")
    model = workshop.model(told=False)
    optimizer = workshop.optimizer(model)
    return workshop.make(
        workshop.target, model=model, optimizer=optimizer, criterion=masked, last_layer_name="classifier"
    )


def pnn(workshop: Workshop) -> Any:
    """Avalanche's own network, which grows a column per task: one hidden layer as wide as our features."""
    model = load_avalanche("avalanche.models.pnn:PNN")(
        num_layers=1,
        in_features=prod(workshop.info.input_shape),
        hidden_features_per_column=workshop.feature_dimension(),
    ).to(workshop.info.device)
    return workshop.make(workshop.target, model=model)


def packnet(workshop: Workshop) -> Any:
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
