"""Bases of layer inputs: energy, rank, orthonormality, and every awkward matrix."""

import pytest
import torch

from cl_suite import RunError
from cl_suite.networks.network import build_network
from strategies.projection.options import ProjectionOptions
from strategies.projection.projected_network import ProjectedNetwork
from strategies.projection.subspaces import InputSpace, Projector, energy, first_rank, outside, principal_directions

CPU = torch.device("cpu")


def matrix(d, n, *, rank=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if rank is None:
        return torch.randn(d, n, generator=generator)
    return torch.randn(d, rank, generator=generator) @ torch.randn(rank, n, generator=generator)


@pytest.mark.parametrize("n", [5, 30, 200])
def test_directions_and_energies_are_those_of_the_singular_value_decomposition(n):
    R = matrix(30, n)
    directions, energies = principal_directions(R)
    U, s, _ = torch.linalg.svd(R.double(), full_matrices=False)
    assert torch.allclose(energies, s**2)
    assert torch.allclose((directions.T @ U).abs(), torch.eye(len(s), dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("R", [torch.zeros(6, 10), torch.zeros(6, 0), torch.zeros(6, 3)])
def test_an_empty_or_zero_matrix_has_no_directions_and_breaks_nothing(R):
    assert principal_directions(R)[0].shape == (6, 0)
    space = InputSpace.empty(6, CPU)
    space.grow(R, 0.9)
    space.grow(R, 0.9)
    space.grow_by_task(R, 0.9)
    assert space.rank == 0
    assert [len(columns) for columns in space.tasks] == [0, 0, 0]


@pytest.mark.parametrize("n", [12, 100])
def test_a_rank_deficient_matrix_gives_as_many_directions_as_its_rank(n):
    space = InputSpace.empty(40, CPU)
    space.grow(matrix(40, n, rank=3), 1.0, rule="paper")
    assert space.rank == 3


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite_are_refused_with_the_next_move(bad):
    R = matrix(5, 8)
    R[2, 3] = bad
    with pytest.raises(RunError, match=r"NaN or infinity. Lower the learning rate"):
        principal_directions(R)


def test_the_first_rank_is_one_less_in_the_released_program_than_in_the_paper():
    energies = torch.tensor([6.0, 3.0, 1.0], dtype=torch.float64)
    assert first_rank(energies, 0.8, "paper") == 2  # 0.6, 0.9: two reach 0.8
    assert first_rank(energies, 0.8, "code") == 1  # one is below it
    assert first_rank(energies, 1.0, "paper") == 3


@pytest.mark.parametrize("grow", ["grow", "grow_by_task"])
def test_bases_hold_the_energy_asked_for_stay_orthonormal_and_never_exceed_the_space(grow):
    space = InputSpace.empty(24, CPU)
    for task in range(6):
        R = matrix(24, 200, rank=7, seed=task)
        getattr(space, grow)(R, 0.95, rule="paper")
        M = space.directions
        assert energy(outside(R, M)) <= (1 - 0.95) * energy(R) + 1e-6
        S = space.basis_of(task) if grow == "grow_by_task" else M
        assert torch.allclose(S.T @ S, torch.eye(S.shape[1]), atol=1e-5)
    for seed in (7, 8):
        getattr(space, grow)(matrix(24, 200, seed=seed), 1.0)
    assert space.rank == 24 and space.is_full


@pytest.mark.parametrize("threshold", [0.99, 1.0])
@pytest.mark.parametrize("grow", ["grow", "grow_by_task"])
@pytest.mark.parametrize("n", [12, 200])
def test_a_task_whose_inputs_are_known_adds_nothing_but_what_was_missing(threshold, grow, n):
    space, R = InputSpace.empty(40, CPU), matrix(40, n, rank=5)
    for _ in range(4):
        getattr(space, grow)(R, threshold, rule="paper")
        M = space.directions
        assert space.rank <= 5
        assert torch.allclose(M.T @ M, torch.eye(space.rank), atol=1e-5)


def test_a_tasks_own_basis_is_drawn_from_old_and_new_directions_by_energy():
    space = InputSpace.empty(10, CPU)
    axes = torch.eye(10)
    space.grow_by_task(axes[:, :3] * torch.tensor([3.0, 2.0, 1.0]), 1.0, rule="paper")  # e0, e1, e2
    # e1 has most energy, then the new e7; e2 is not needed for 95 %.
    space.grow_by_task(axes[:, [1, 7, 2]] * torch.tensor([5.0, 3.0, 0.1]), 0.95)
    S = space.basis_of(1)
    assert torch.allclose(S.abs(), axes[:, [1, 7]], atol=1e-6)
    assert space.rank == 4  # e7 alone was appended


def test_the_released_program_leaves_the_first_new_direction_unprotected():
    axes = torch.eye(10)
    found = {}
    for code_compat in (False, True):
        space = InputSpace.empty(10, CPU)
        space.grow_by_task(axes[:, :2] * 2, 1.0, rule="paper")
        space.grow_by_task(axes[:, [4, 5]] * torch.tensor([3.0, 1.0]), 1.0, code_compat=code_compat)
        found[code_compat] = space.protected().abs().sum(1).round().tolist()
        assert len(space.tasks[1]) == 2
        assert space.rank == (3 if code_compat else 4)  # what is protected
    assert [found[False][axis] for axis in (4, 5)] == [1.0, 1.0]
    assert [found[True][axis] for axis in (4, 5)] == [0.0, 1.0]


def test_a_direction_that_a_free_task_shares_with_a_protected_one_stays_protected():
    axes, space = torch.eye(6), InputSpace.empty(6, CPU)
    space.grow_by_task(axes[:, [0, 1]] * torch.tensor([3.0, 2.0]), 1.0, rule="paper")
    space.grow_by_task(axes[:, [1, 2]] * torch.tensor([3.0, 2.0]), 1.0)
    projected = Projector(space.protected({1}))(torch.ones(3, 6))  # task 0 is free
    assert projected[0].tolist() == pytest.approx([1, 0, 0, 1, 1, 1], abs=1e-6)


@pytest.mark.parametrize("rank", [0, 1, 5, 11, 19, 20])
def test_a_projected_gradient_is_orthogonal_to_the_basis_and_keeps_the_rest(rank):
    basis = torch.linalg.qr(matrix(20, 20)).Q[:, :rank]
    gradient = matrix(7, 20, seed=1)
    projected = Projector(basis)(gradient.clone())
    assert (projected @ basis).abs().max() < 1e-5 if rank else torch.equal(projected, gradient)
    assert torch.allclose(projected, gradient - gradient @ basis @ basis.T, atol=1e-5)


def test_representation_matrices_of_the_alexnet_have_the_published_shapes():
    network = build_network("alexnet", (3, 32, 32), 100)
    network.heads.open()
    projected = ProjectedNetwork(network, heads=False)
    names = list(projected.layers)
    images = torch.randn(125, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    samples = dict(zip(names, (24, 100, 100, 125, 125), strict=True))
    shapes = [tuple(R.shape) for R in projected.input_vectors(images, samples, 20_000).values()]
    assert shapes == [(48, 20184), (576, 14400), (512, 2500), (1024, 125), (2048, 125)]
    assert not any(name.startswith("heads") for name in names)
    # Where nothing is said, convolutions use so many samples that their patches fit.
    free = [R.shape[1] for R in projected.input_vectors(images, {}, 5_000).values()]
    assert free == [5 * 841, 34 * 144, 125 * 25, 125, 125]


def test_thresholds_are_the_published_ones():
    options = ProjectionOptions()
    assert [options.threshold_of(0, t, 10) for t in range(10)] == pytest.approx([0.97 + 0.003 * t for t in range(10)])
    superclasses = ProjectionOptions(threshold=0.98, threshold_last=0.999)
    assert round(superclasses.threshold_of(0, 7, 20), 6) == 0.987
    assert ProjectionOptions(layer_thresholds=[0.95, 0.99, 0.99]).threshold_of(1, 4, 10) == 0.99
