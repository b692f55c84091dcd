"""Graphs: thresholding is straight through, liveness, aggregation, forced matrices are checked."""
import pytest
import torch
from mmengine.utils import digit_version

from mmdyn.functional.graph import (aggregate, chain_adjacency, check_adjacency,
                                    complete_adjacency, cut, cut_output, edge_dots, liveness)


def test_cut_is_exact_and_passes_the_gradient_of_open_and_closed_edges():
    weights = torch.tensor([[0.1, 0.2, 0.3]], requires_grad=True)
    out = cut(weights, 0.2)
    assert torch.equal(out, torch.tensor([[0.0, 0.0, 0.3]]))
    (out * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert torch.equal(weights.grad, torch.tensor([[1.0, 2.0, 3.0]]))


def test_edges_of_a_dead_source_have_neither_weight_nor_gradient():
    weights = torch.full((2, 3), 0.9, requires_grad=True)
    out = cut(weights, 0.1, torch.tensor([[1.0], [0.0]]))
    out.sum().backward()
    assert torch.equal(out, torch.tensor([[0.9] * 3, [0.0] * 3]))
    assert torch.equal(weights.grad, torch.tensor([[1.0] * 3, [0.0] * 3]))


def test_a_closed_edge_reopens_under_a_gradient_that_wants_it():
    weights = torch.tensor([[0.05]], requires_grad=True)
    for _ in range(20):
        loss = (cut(weights, 0.2) - 1).square().sum()
        grad, = torch.autograd.grad(loss, weights)
        weights = (weights - 0.1 * grad).detach().requires_grad_()
    assert cut(weights, 0.2).item() > 0.2


def test_a_learned_threshold_falls_where_a_closed_edge_is_wanted():
    threshold = torch.tensor(0.2, requires_grad=True)
    (cut(torch.tensor([[0.15, 0.25]]), threshold).sum() * -1).backward()
    assert threshold.grad > 0


def test_the_output_keeps_its_strongest_live_edge_only_if_it_has_no_other():
    weights = torch.tensor([[0.1, 0.9, 0.2], [0.1, 0.15, 0.05], [0.6, 0.7, 0.1]])
    alive = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    out = cut_output(weights, 0.5, alive)
    expected = torch.tensor([[0.0, 0.0, 0.2], [0.0, 0.15, 0.0], [0.6, 0.7, 0.0]])
    assert torch.equal(out, expected)


def test_the_output_edges_pass_the_gradient_of_live_sources():
    weights = torch.tensor([[0.1, 0.9, 0.2]], requires_grad=True)
    cut_output(weights, 0.5, torch.tensor([[1.0, 0.0, 1.0]])).sum().backward()
    assert torch.equal(weights.grad, torch.tensor([[1.0, 0.0, 1.0]]))


def test_complete_and_chain():
    assert torch.equal(complete_adjacency(3), torch.ones(4, 4).triu(1))
    assert torch.allclose(complete_adjacency(5, mean=True).sum(0)[1:], torch.ones(5))
    assert torch.equal(chain_adjacency(2), torch.tensor([[0., 1, 0], [0, 0, 1], [0, 0, 0]]))


def test_liveness_follows_open_edges_from_the_input_node():
    adjacency = torch.zeros(1, 5, 5)
    adjacency[0, 0, 1] = adjacency[0, 1, 4] = adjacency[0, 2, 3] = 1  # 2 -> 3 hangs in the air
    assert liveness(adjacency)[0].tolist() == [True, True, False, False, True]


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_aggregate_and_dots(dtype):
    if dtype is torch.float16 and digit_version(torch.__version__) < digit_version('2.2'):
        pytest.skip('PyTorch 2.1 multiplies no float16 matrices on CPUs')
    maps, weights, other = torch.randn(3, 2, 50), torch.rand(2, 3), torch.randn(2, 50)
    maps, other = maps.to(dtype), other.to(dtype)
    rounded = weights.to(dtype)
    expected = sum(maps[i].double() * rounded[:, i:i + 1].double() for i in range(3))
    tolerance = dict(atol=1e-5, rtol=1e-5) if dtype.itemsize > 2 else dict(atol=0.05, rtol=0.02)
    out = aggregate(maps, weights)
    assert out.dtype == dtype and torch.allclose(out.double(), expected, **tolerance)
    dots = edge_dots(maps, other)
    assert dots.dtype == torch.promote_types(dtype, torch.float32)
    expected = torch.einsum('jnm,nm->nj', maps.double(), other.double())
    assert torch.allclose(dots.double(), expected, atol=1e-4)


def test_dots_of_half_precision_do_not_overflow():
    maps = torch.full((2, 1, 1 << 20), 16.0, dtype=torch.float16)
    assert torch.equal(edge_dots(maps, maps[0]), torch.full((1, 2), float(1 << 28)))


BAD = {
    'must be .3, 3. or .N, 3, 3., for|must be': torch.zeros(4, 4),
    'strictly upper triangular': torch.ones(3, 3),
    'leaves the output without input': torch.tensor([[0., 1, 0], [0, 0, 0], [0, 0, 0]]),
    'finite and not negative': torch.tensor([[0., 1, -1], [0, 0, 1], [0, 0, 0]]),
    'finite': torch.tensor([[0., float('nan'), 1], [0, 0, 1], [0, 0, 0]]),
    # The only input of the output is a node that is dead itself.
    'from a node that node 0 reaches': torch.tensor([[0., 0, 0], [0, 0, 1], [0, 0, 0]]),
}


@pytest.mark.parametrize('message', BAD)
def test_bad_matrices_are_refused(message):
    with pytest.raises(ValueError, match=message):
        check_adjacency(BAD[message], 2, 'layer1')


def test_one_bad_image_of_a_batch_is_refused():
    matrix = torch.stack([chain_adjacency(2), torch.zeros(3, 3)])
    with pytest.raises(ValueError, match='without input'):
        check_adjacency(matrix, 2, 'layer1')
