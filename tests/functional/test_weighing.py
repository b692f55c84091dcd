"""Weighed maps: the values, the gradients, and that those of weights do not overflow."""
import pytest
import torch
from mmengine.utils import digit_version

from mmdyn.functional.weighing import weigh


@pytest.mark.parametrize('adds', [False, True])
@pytest.mark.parametrize('formats', [('contiguous_format', ) * 2, ('channels_last', ) * 2,
                                     ('contiguous_format', 'channels_last')], ids='-'.join)
def test_value_and_gradients_are_those_of_autograd(formats, adds):
    memory_format, of_gradient = (getattr(torch, name) for name in formats)
    onto, maps = (torch.randn(3, 4, 5, 6, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
                  for _ in range(2))
    weights = torch.tensor([1.0, 0.0, 0.3], dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(3, 4, 5, 6, dtype=torch.float64).to(memory_format=of_gradient)
    inputs = (maps, weights, onto) if adds else (maps, weights)
    plain = maps * weights[:, None, None, None]
    results = []
    for out in (weigh(*inputs), onto + plain if adds else plain):
        results.append((out, *torch.autograd.grad(out, inputs, gradient)))
    for ours, wanted in zip(*results):
        torch.testing.assert_close(ours, wanted, rtol=1e-12, atol=1e-12)
    assert results[0][0].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize('dtype', [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.2'), reason='PyTorch 2.1 multiplies no float16 maps on CPUs'))])
def test_the_gradient_of_a_weight_is_summed_in_float32(dtype):
    """In float16 it would be infinite, and the loss scale be halved for nothing."""
    maps = torch.ones(1, 256, 28, 24, dtype=dtype, requires_grad=True)
    weights = torch.ones(1, requires_grad=True)
    out = weigh(maps, weights, torch.zeros_like(maps))
    out.backward(torch.ones_like(out))
    assert weights.grad.tolist() == [172_032.0]
    assert maps.grad.dtype == out.dtype == dtype


def test_weights_that_need_no_gradient_keep_no_maps():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda tensor: tensor):
        weigh(torch.ones(2, 3, 4, 4, requires_grad=True), torch.ones(2))
    assert kept == [(2, 1, 1, 1)]
