"""The fused end of a gated block: the plain one's output bit for bit, its gradients, and what is kept for them."""
import copy

import pytest
import torch
from mmengine.utils import digit_version
from torch import nn

from mmdyn.analysis.timing import saved_bytes
from mmdyn.backbones import AIGMobileNetV2, AIGResNet
from mmdyn.layers import gated_stage
from mmdyn.layers.gated_sum import gated_sum, is_plain


def plain_sum(shortcut, z, decision, norm, activated):
    out = torch.addcmul(shortcut, norm(z), decision.to(z.dtype)[:, None, None, None])
    return out.relu_() if activated else out


def inputs(dtype=torch.float64, training=False, channels_last=False):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6).to(torch.promote_types(dtype, torch.float32)).train(training)
    for values in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        values.uniform_(0.5, 1.5)
    shortcut, z = torch.randn(2, 5, 6, 7, 4).to(dtype)
    if channels_last:
        shortcut, z = (maps.contiguous(memory_format=torch.channels_last) for maps in (shortcut, z))
    decision = torch.tensor([1.0, 0, 1, 0, 1]).to(torch.promote_types(dtype, torch.float32))
    return [tensor.requires_grad_() for tensor in (shortcut, z, decision)], norm


def both(function, tensors, norm, activated):
    tensors = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    norm = copy.deepcopy(norm)
    out = function(*tensors, norm, activated)
    (out.double() * torch.linspace(-1, 2, out.numel(), dtype=torch.float64).view_as(out)).sum().backward()
    return out.detach(), [value.grad for value in (*tensors, norm.weight, norm.bias)], norm


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('activated', [False, True])
@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('dtype, tolerance', [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_the_output_to_the_last_bit_and_the_gradients(dtype, tolerance, training, activated, channels_last):
    tensors, norm = inputs(dtype, training, channels_last)
    wanted, wanted_grads, wanted_norm = both(plain_sum, tensors, norm, activated)
    ours, grads, our_norm = both(gated_sum, tensors, norm, activated)
    assert torch.equal(ours, wanted)
    for name, value in wanted_norm.named_buffers():
        assert torch.equal(our_norm.get_buffer(name), value), name
    for grad, wanted_grad in zip(grads, wanted_grads):
        torch.testing.assert_close(grad, wanted_grad, rtol=tolerance, atol=tolerance * wanted_grad.abs().max().item())
        assert grad.stride() == wanted_grad.stride()


@pytest.mark.parametrize('activated', [False, True])
@pytest.mark.parametrize('training', [False, True])
def test_gradcheck(training, activated):
    tensors, norm = inputs(training=training)

    def run(shortcut, z, decision, weight, bias):
        fresh = nn.BatchNorm2d(6).double().train(training)
        fresh.weight, fresh.bias = nn.Parameter(weight), nn.Parameter(bias)
        del fresh.weight, fresh.bias
        fresh.weight, fresh.bias = weight, bias
        return gated_sum(shortcut[:, :, :2, :2], z[:, :, :2, :2], decision, fresh, activated)

    torch.autograd.gradcheck(run, (*tensors, norm.weight.detach().requires_grad_(), norm.bias.detach().requires_grad_()))


@pytest.mark.skipif(digit_version(torch.__version__) < digit_version('2.3'), reason='it has no float16 norms on CPUs')
def test_half_precision_sums_are_taken_in_float32():
    norm = nn.BatchNorm2d(1).eval()
    z = torch.full((1, 1, 64, 64), 40.0, dtype=torch.float16)
    decision = torch.ones(1, requires_grad=True)
    out = gated_sum(torch.zeros_like(z), z, decision, norm, activated=False)
    out.backward(torch.ones_like(out))
    assert decision.grad.item() == pytest.approx(64 * 64 * 40, rel=1e-3)  # beyond float16, which ends at 65504


def test_what_looks_at_norm_or_activation_takes_the_plain_way():
    norm, relu = nn.BatchNorm2d(4), nn.ReLU()
    assert is_plain(norm, relu) and is_plain(norm, None)
    assert not is_plain(nn.GroupNorm(2, 4), relu) and not is_plain(nn.SyncBatchNorm(4), relu)
    assert not is_plain(norm, nn.SiLU()) and not is_plain(nn.BatchNorm2d(4, affine=False), relu)
    assert not is_plain(nn.BatchNorm2d(4, momentum=None), relu) and not is_plain(None, relu)
    handle = norm.register_forward_hook(lambda *args: None)
    assert not is_plain(norm, relu)
    handle.remove()
    relu.register_forward_hook(lambda *args: None)
    assert not is_plain(norm, relu)


FAMILIES = [
    (AIGResNet, dict(depth=50, base_channels=8, norm_eval=True)),
    (AIGResNet, dict(depth=18, base_channels=8, norm_eval=False)),
    (AIGMobileNetV2, dict(out_indices=(1, 2, 4, 6), norm_eval=True)),
]


@pytest.mark.parametrize('family, options', FAMILIES)
def test_a_backbone_trains_as_it_does_without(family, options, monkeypatch):
    torch.manual_seed(0)
    backbone = family(**options).double().train()
    for parameter in backbone.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1)
    images = torch.randn(3, 3, 64, 64).double()

    def run():
        torch.manual_seed(1)
        backbone.zero_grad()
        features = backbone(images)
        sum(maps.square().mean() for maps in features).backward()
        return features, {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}

    features, grads = run()
    monkeypatch.setattr(gated_stage, 'is_plain', lambda *args: False)
    wanted, wanted_grads = run()
    assert all(map(torch.equal, features, wanted)) and set(grads) == set(wanted_grads)
    for name, grad in wanted_grads.items():
        torch.testing.assert_close(grads[name], grad, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f'{name} {text}')


@pytest.mark.parametrize('with_cp', [False, True])
def test_no_more_is_kept_than_by_the_static_network(with_cp):
    options = dict(depth=50, base_channels=16, norm_eval=True, with_cp=with_cp)
    images = torch.randn(2, 3, 128, 128)
    gated = AIGResNet(**options).train()
    static = AIGResNet(**options, target_rates=1).train()
    for parameter in static.conv1.parameters(), gated.conv1.parameters():
        next(parameter).requires_grad_()
    kept = [saved_bytes(model, lambda model=model: model(images)) for model in (static, gated)]
    assert kept[1] <= 1.02 * kept[0]


def test_a_gradient_that_a_hook_keeps_is_not_written_to():
    """Where nobody looks, the gradient of the average that the gate reads is added in place."""
    backbone = AIGResNet(depth=18, norm_eval=True).train()
    backbone.losses_attached = True
    kept = []

    def keep(module, args, output):
        args[0].register_hook(lambda gradient: kept.append((gradient, gradient.clone())))

    backbone.layer2[1].conv1.register_forward_hook(keep)
    sum(map(torch.Tensor.sum, backbone(torch.randn(2, 3, 32, 32)))).backward()
    (gradient, as_it_came), = kept
    assert torch.equal(gradient, as_it_came)
