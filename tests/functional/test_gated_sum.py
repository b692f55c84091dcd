"""The sum of a gated block: its value, its gradients, and that those of decisions do not overflow."""
import pytest
import torch
from mmengine.utils import digit_version

from mmdyn.functional.gated_sum import gated_sum


@pytest.mark.parametrize('formats', [('contiguous_format', ) * 2, ('channels_last', ) * 2,
                                     ('contiguous_format', 'channels_last')], ids='-'.join)
def test_value_and_gradients_are_those_of_autograd(formats):
    memory_format, of_gradient = (getattr(torch, name) for name in formats)
    shortcut, branch = (torch.randn(3, 4, 5, 6, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
                        for _ in range(2))
    decision = torch.tensor([1.0, 0.0, 0.3], dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(3, 4, 5, 6, dtype=torch.float64).to(memory_format=of_gradient)
    inputs = shortcut, branch, decision
    results = []
    for out in (gated_sum(*inputs), shortcut + decision[:, None, None, None] * branch):
        results.append((out, *torch.autograd.grad(out, inputs, gradient)))
    for ours, wanted in zip(*results):
        torch.testing.assert_close(ours, wanted, rtol=1e-12, atol=1e-12)
    assert results[0][0].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize('dtype', [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.2'), reason='PyTorch 2.1 multiplies no float16 maps on CPUs'))])
def test_the_gradient_of_a_decision_is_summed_in_float32(dtype):
    """In float16 it would be infinite, and the loss scale be halved for nothing."""
    branch = torch.ones(1, 256, 28, 24, dtype=dtype, requires_grad=True)
    decision = torch.ones(1, requires_grad=True)
    out = gated_sum(torch.zeros_like(branch), branch, decision)
    out.backward(torch.ones_like(out))
    assert decision.grad.tolist() == [172_032.0]
    assert branch.grad.dtype == out.dtype == dtype


def test_what_needs_no_gradient_keeps_nothing():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda tensor: tensor):
        gated_sum(torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4, requires_grad=True), torch.ones(2))
    assert kept == [(2, 1, 1, 1)]
