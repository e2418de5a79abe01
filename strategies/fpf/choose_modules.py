"""Which modules are finetuned: by name, by network and scenario, or those that were measured to move most.

Zhao et al. 2023, "Does Continual Learning Equally Forget All Parameters?" (arXiv 2304.04158), section 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from cl_suite import Scenario, UsageError, module_groups, parameter_count

WORDS = {"fc": ("fc_weight", "fc_bias"), "bn": ("bn", "bn_statistics")}  # that stand for several modules


def preset(groups: Mapping[str, list[str]], scenario: Scenario) -> list[str]:
    """Return the modules of section 2's presets that this network has.

    Class-incremental: head, batch norm, first convolution. Domain-incremental: batch norm and first convolution; the
    head where there is no batch norm.
    """
    early = [name for name in ("conv1", "bn", "bn_statistics") if name in groups]
    if scenario is Scenario.DOMAIN_INCREMENTAL and "bn" in groups:
        return early
    return [*early, *(name for name in WORDS["fc"] if name in groups)]


def parse_modules(text: str, groups: Mapping[str, list[str]]) -> list[str]:
    """Return the modules that `text` names: `all`, or names joined by +, such as fc+bn+conv1.

    Raise UsageError, listing those that exist, for one that does not.
    """
    if text == "all":
        return list(groups)
    chosen: list[str] = []
    for word in text.split("+"):
        names = [name for name in WORDS.get(word, (word,)) if name in groups]
        if not names:
            known = [*(w for w, stands in WORDS.items() if set(stands) & set(groups)), *groups]
            raise UsageError(
                f"strategy.modules={text}: this network has no module {word!r}. "
                f"It has {', '.join(dict.fromkeys(known))}; join several with +, or use preset, auto or all."
            )
        chosen += names
    return list(dict.fromkeys(chosen))


def select(
    scores: Mapping[str, float],
    network: nn.Module,
    *,
    top: int = 0,
    threshold: float = 0.0,
    budget: float = 0.05,
    most: bool = True,
) -> list[str]:
    """Return the most sensitive modules, in the order of the network.

    top: so many; else threshold: those with a score above it; else the highest scores as long as their parameters
    together are at most the share `budget` of the network's. At least one module is returned. Batch norm is one module
    here, with its running statistics: finetuned without them it would be finetuned in evaluation mode.
    most=False: the control. Of the modules that would not be chosen the least sensitive, about as many parameters
    (`top`: as many modules).
    """
    units = _units(scores)
    ranked = sorted(units, key=lambda name: units[name], reverse=True)
    groups = module_groups(network)
    sizes = {name: sum(parameter_count(network, groups[each]) for each in _members(name, scores)) for name in units}
    total = sum(parameter.numel() for parameter in network.parameters())
    if top:
        chosen = ranked[:top]
    elif threshold:
        chosen = [name for name in ranked if units[name] > threshold]
    else:
        chosen = _while_it_fits(ranked, sizes, budget * total)
    chosen = chosen or ranked[:1]
    if not most:
        others = [name for name in reversed(ranked) if name not in chosen] or ranked[-1:]
        size = sum(sizes[name] for name in chosen)
        chosen = others[:top] if top else _while_it_fits(others, sizes, size) or others[:1]
    wanted = {member for name in chosen for member in _members(name, scores)}
    return [name for name in scores if name in wanted]


def _units(scores: Mapping[str, float]) -> dict[str, float]:
    """Return scores with batch norm and its running statistics as one: they have as many entries."""
    units = {name: score for name, score in scores.items() if name != "bn_statistics"}
    if "bn_statistics" in scores:
        units["bn"] = (scores["bn"] + scores["bn_statistics"]) / 2
    return units


def _members(unit: str, scores: Mapping[str, float]) -> list[str]:
    return [name for name in (WORDS["bn"] if unit == "bn" else (unit,)) if name in scores]


def _while_it_fits(names: Sequence[str], sizes: Mapping[str, int], limit: float) -> list[str]:
    chosen: list[str] = []
    for name in names:
        if sum(sizes[each] for each in [*chosen, name]) > limit:
            break
        chosen.append(name)
    return chosen
