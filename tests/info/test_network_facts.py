"""Networks: names without torch, sizes as they are built."""

import pytest

from cl_suite.core.errors import UsageError
from cl_suite.info.find import find
from cl_suite.info.networks import TABLES, _tables, describe_network, network_names
from cl_suite.networks.network import build_network
from tests.helpers.own_networks import OWN


def test_names_read_from_the_source_are_those_of_the_tables():
    assert network_names() == [name for table in _tables().values() for name in table]
    assert len(_tables()) == len(TABLES)


@pytest.mark.parametrize(("name", "shape"), [("conv_small", (3, 32, 32)), ("mlp", (16,)), ("lenet5", (1, 28, 28))])
def test_the_size_is_that_of_the_network_without_its_head(name, shape):
    backbone = build_network(name, shape, 10).backbone
    count = sum(parameter.numel() for parameter in backbone.parameters())
    text = describe_network(name).facts["sizes"][" x ".join(map(str, shape))]
    assert text == f"{count:,} parameters, {backbone.feature_dim:,} features"


def test_only_inputs_that_it_can_read_are_counted():
    assert all(" x " in shape for shape in describe_network("alexnet").facts["sizes"])
    assert "1 x 8 x 8" not in describe_network("alexnet").facts["sizes"]
    assert "16,384" in next(iter(describe_network("text_cnn").facts["sizes"]))
    assert "states" in next(iter(describe_network("bc_mlp").facts["sizes"]))
    assert describe_network("transformer_encoder").facts["sizes"].startswith("not known: ")


def test_options_have_the_backbone_s_own_defaults():
    options = {option.name: option.default for option in describe_network("text_cnn").options}
    assert options["model.width"] == 100 and "model.hidden" not in options


def test_a_network_from_elsewhere_is_told_with_its_sizes(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(OWN, encoding="utf-8")
    (answer,) = find(f"{file}:Net", tmp_path)
    count = sum(parameter.numel() for parameter in build_network(f"{file}:Net", (1, 8, 8), 10).backbone.parameters())
    assert answer.kind == "network" and answer.facts["sizes"]["1 x 8 x 8"].startswith(f"{count:,} parameters")
    with pytest.raises(UsageError, match="has no 'Nett'"):
        find(f"{file}:Nett", tmp_path)
