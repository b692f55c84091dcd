"""Stages and blocks are modules that are called: what hooks see, what they may keep, and what is refused."""
import copy
import pickle
from functools import partial

import pytest
import torch
from mmdet.models.backbones import MobileNetV2, RegNet, ResNet, ResNeXt
from torch import nn

from mmdyn.backbones import (AIGMobileNetV2, AIGRegNet, AIGResNet, AIGResNeXt, DGMobileNetV2, DGRegNet, DGResNet,
                             DGResNeXt)

ARCH = dict(w0=8, wa=6.0, wm=2.0, group_w=8, depth=10, bot_mul=1.0)
FAMILIES = {
    'resnet': (ResNet, AIGResNet, DGResNet, dict(depth=18, base_channels=8)),
    'resnext': (ResNeXt, AIGResNeXt, DGResNeXt, dict(depth=50, base_channels=8, groups=2)),
    'regnet': (RegNet, AIGRegNet, DGRegNet, dict(arch=ARCH)),
    'mobilenet': (MobileNetV2, AIGMobileNetV2, DGMobileNetV2, dict(widen_factor=0.25)),
}


def pair(family, method):
    """A static backbone, and a dynamic one with its weights that computes the same."""
    static_class, *dynamic, options = FAMILIES[family]
    static = static_class(**copy.deepcopy(options))
    for parameter in static.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.0)
    choice = dict(node='block') if method == 'dg' else {}
    backbone = dynamic[method == 'dg'](**copy.deepcopy(options), **choice)
    backbone.load_state_dict(static.state_dict(), strict=False)
    backbone.force_decisions('chain' if method == 'dg' else 'open')
    backbone.losses_attached = True
    return static, backbone


def stages_and_blocks(backbone):
    for name, module in backbone.named_children():
        if isinstance(module, nn.Sequential) and name.startswith('layer'):
            yield name, module
            yield from ((f'{name}.{i}', block) for i, block in enumerate(module))


def watch(backbone):
    """Name -> what forward hooks see, call by call."""
    seen = {}
    for name, module in stages_and_blocks(backbone):
        module.register_forward_hook(
            lambda module, args, out, name=name: seen.setdefault(name, []).append((args, out)))
    return seen


@pytest.mark.parametrize('method', ['aig', 'dg'])
@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('mode', ['train', 'mask', 'skip', 'skip with gradients'])
def test_hooks_fire_once_and_see_what_those_of_the_static_parent_see(family, method, mode):
    static, backbone = pair(family, method)
    static.train(mode == 'train'), backbone.train(mode == 'train')
    backbone.execution = 'mask' if mode == 'mask' else 'skip'
    theirs, ours = watch(static), watch(backbone)
    images = torch.randn(2, 3, 64, 64)
    with torch.set_grad_enabled(mode in ('train', 'skip with gradients')):
        wanted, outs = static(images), backbone(images)
    assert list(ours) == list(theirs) and len(ours) > 8
    for name, ((args, out), ) in theirs.items():
        ((our_args, our_out), ) = ours[name]
        assert torch.equal(our_out, out), name
        assert len(our_args) == len(args) == 1 and torch.equal(our_args[0], args[0]), name
    assert all(torch.equal(a, b) for a, b in zip(outs, wanted))


@pytest.mark.parametrize('method', ['aig', 'dg'])
def test_hooks_fire_for_what_is_closed_too(method):
    _, backbone = pair('resnet', method)
    backbone.eval().force_decisions('closed' if method == 'aig' else {
        name: torch.tensor([[0, 0, 1], [0, 0, 0], [0, 0, 0]]) for name in ('layer1', 'layer2', 'layer3', 'layer4')})
    seen = watch(backbone)
    with torch.no_grad():
        backbone(torch.randn(2, 3, 64, 64))
    assert all(len(calls) == 1 for calls in seen.values()) and len(seen) == 12
    if method == 'dg':  # a node that is dead for every image is called with none
        assert len(seen['layer1.1'][0][1]) == 0


@pytest.mark.parametrize('gradients', [False, True])
@pytest.mark.parametrize('method', ['static', 'aig', 'dg'])
@pytest.mark.parametrize('family', FAMILIES)
def test_no_map_that_a_hook_kept_or_that_left_the_backbone_is_written_to_afterwards(family, method, gradients):
    """But for those on which the static network itself works in place: by them the test knows that it can fail."""
    static, backbone = pair(family, 'dg' if method == 'dg' else 'aig')
    watched = static if method == 'static' else backbone
    kept = []

    def keep(name, module, args, out):
        for value in (*args, *(out if isinstance(out, tuple) else [out])):
            if isinstance(value, torch.Tensor):
                kept.append((name, value, value.detach().clone()))

    for name, module in watched.named_modules():
        # Not those that are followed by an activation in place, or by a sum in place.
        if not isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.ReLU)) and not name.endswith('.conv'):
            module.register_forward_hook(partial(keep, name))
    watched.eval()
    decided = {'aig': [[1, 1, 1], [0, 1, 0], [0, 0, 0], None], 'dg': ['chain', 'complete', None]}.get(method, [None])
    with torch.set_grad_enabled(gradients):
        for decisions in decided:
            if method == 'aig':
                backbone.force_decisions(decisions and {name: decisions for name in backbone.gates()})
            elif method == 'dg':
                backbone.force_decisions(decisions)
            watched(torch.randn(3, 3, 64, 64))
    assert len(kept) > 70
    assert not {name for name, value, copied in kept if not torch.equal(value, copied)}


@pytest.mark.parametrize('method', ['aig', 'dg'])
@pytest.mark.parametrize('training', [True, False])
def test_a_hook_that_replaces_a_blocks_output_is_obeyed(method, training):
    static, backbone = pair('resnet', method)
    static.double().train(training), backbone.double().train(training)
    for decider in backbone.deciders():  # which otherwise hand gradient to what they read
        nn.init.zeros_(decider.fc1.weight if method == 'aig' else decider.weight)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    gradients = []
    for model in (static, backbone):
        for name in ('0', '1'):
            model.layer2.get_submodule(name).register_forward_hook(lambda module, args, out: 0.5 * out.flip(0))
        model.layer3.register_forward_hook(lambda module, args, out: out + 1)
        outs = model(images)
        sum(out.square().mean() for out in outs).backward()
        gradients.append((outs, [p.grad for p in model.parameters() if p.grad is not None]))
        with torch.no_grad():
            gradients[-1] += (model(images), )
    (theirs, their_gradients, again), (ours, our_gradients, our_again) = gradients
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs))
    assert all(torch.equal(a, b) for a, b in zip(our_again, again))
    static_gradient = dict((n, p.grad) for n, p in static.named_parameters())
    for name, parameter in backbone.named_parameters():
        if static_gradient.get(name) is not None:
            torch.testing.assert_close(parameter.grad, static_gradient[name], rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize('method', ['aig', 'dg'])
@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('execution', ['skip', 'mask'])
def test_a_batch_of_no_images_gives_what_the_static_parent_gives(family, method, execution):
    static, backbone = pair(family, method)
    static.eval(), backbone.eval()
    backbone.execution = execution
    for decisions in (None, 'open' if method == 'aig' else 'chain'):
        backbone.force_decisions(decisions)
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                images = torch.zeros(0, 3, 64, 64)
                assert [out.shape for out in backbone(images)] == [out.shape for out in static(images)]
    assert len(backbone.decisions) == 0


@pytest.mark.parametrize('method', ['aig', 'dg'])
def test_a_stage_or_block_called_without_its_pass_says_who_calls_it(method):
    _, backbone = pair('resnet', method)
    x = torch.randn(1, 8, 8, 8)
    for name in ('layer1', 'layer1.1'):
        with pytest.raises(TypeError, match=f"'{name}' .*got none"):
            backbone.get_submodule(name)(x)


def test_a_decision_forced_on_a_block_without_a_shortcut_names_it():
    with pytest.raises(ValueError, match="no gate at block 'layer2.0'; the gated blocks are"):
        AIGMobileNetV2(widen_factor=0.25).force_decisions({'layer2.0': [1]})


@pytest.mark.parametrize('method', ['aig', 'dg'])
@pytest.mark.parametrize('family', FAMILIES)
def test_copies_and_pickles_compute_the_same(family, method):
    _, backbone = pair(family, method)
    images = torch.randn(2, 3, 64, 64)
    backbone.eval().force_decisions(None)
    with torch.no_grad():
        wanted = backbone(images)
        for copied in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
            assert all(torch.equal(a, b) for a, b in zip(copied(images), wanted))
            assert [type(m) for m in copied.modules()] == [type(m) for m in backbone.modules()]


def test_blocks_stay_instances_of_mmdetections_and_keep_their_names():
    static, backbone = pair('resnet', 'aig')
    for name, module in static.named_modules():
        assert isinstance(backbone.get_submodule(name), type(module)), name
    extra = set(backbone.state_dict()) - set(static.state_dict())
    assert extra and all('.gate.' in key for key in extra)
