"""Paired routes: all gates open is plain training, the open route teaches, and wrong uses are named."""
import contextlib
import copy
import gc
import weakref
from types import SimpleNamespace as Parts

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import ImgDataPreprocessor
from mmengine.registry import HOOKS
from mmengine.structures import InstanceData
from torch.nn.parallel import DistributedDataParallel
from toy import SMALL_AIG, Classifier, Pictures, toy_runner

import mmdyn
from mmdyn.hooks.route_distance import map_distance
from mmdyn.hooks.paired_routes_hook import _require_one_backward
from mmdyn.hooks.paired_routes import Distance, PairedRoutes, _levels, default_distance
from test_attach import samples

FROZEN = dict(SMALL_AIG, norm_eval=True)
STATIC = dict(FROZEN, type='mmdet.ResNet')
ATTACHED = dict(type='mmdyn.DynamicModelHook')


def trained(tmp_path, backbone, hooks=(), force=None) -> dict:
    """Four iterations from one set of weights; what they have become, but for the gates."""
    torch.manual_seed(0)
    start = Classifier(STATIC).state_dict()
    runner = toy_runner(tmp_path, backbone, hooks=hooks)
    runner.model.load_state_dict(start, strict=False)
    runner.model.init_weights = lambda: None
    if force is not None:
        runner.model.backbone.force_decisions(force)
    runner.train()
    weights = runner.model.state_dict()
    assert not torch.equal(weights['backbone.conv1.weight'], start['backbone.conv1.weight'])
    return {name: value for name, value in weights.items() if '.gate.' not in name}


@pytest.mark.parametrize('options', [dict(), dict(form='half')])
def test_all_gates_open_is_plain_training(tmp_path, options):
    plain = trained(tmp_path / 'plain', STATIC)
    # Taught gates: straight through the others' decisions a gradient would reach what the gates read.
    gated = dict(FROZEN, target_rates=0.5, gate=dict(estimator='taught'))
    paired = trained(tmp_path / 'paired', gated, [ATTACHED, dict(type='mmdyn.PairedRoutesHook', **options)], 'open')
    for name, value in plain.items():
        torch.testing.assert_close(paired[name], value, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f'{name} {text}')


@pytest.mark.parametrize('options', [dict(), dict(routed_weight=0.25), dict(twice=False)])
def test_all_gates_open_has_the_gradients_of_plain_training(options):
    """In double precision: the sums over maps may be taken in another order than a static block's."""
    torch.manual_seed(0)
    static = Classifier(STATIC).double().train()
    model = Classifier(dict(FROZEN, target_rates=0.5, gate=dict(estimator='taught'))).double().train()
    model.load_state_dict(static.state_dict(), strict=False)
    PairedRoutes(model, **options)
    mmdyn.attach(model)
    model.backbone.force_decisions('open')
    images, data = torch.randn(4, 3, 16, 16).double(), samples(4)
    for each in (static, model):
        each.parse_losses(each(images, data, mode='loss'))[0].backward()
    for name, parameter in static.named_parameters():
        wanted = parameter.grad
        torch.testing.assert_close(model.get_parameter(name).grad, wanted, rtol=1e-12, atol=1e-12)


def test_until_it_begins_training_is_plain_and_the_gates_have_zero_gradients(tmp_path):
    plain = trained(tmp_path / 'plain', STATIC)
    losses = dict(ATTACHED, losses=[dict(type='mmdyn.TargetRateLoss')])
    paired = trained(tmp_path / 'paired', dict(FROZEN, target_rates=0.5),
                     [losses, dict(type='mmdyn.PairedRoutesHook', begin=1.0)])
    for name, value in plain.items():
        assert torch.equal(value, paired[name]), name


@HOOKS.register_module()
class StepTwice(Hook):
    """Makes each iteration's step once more, before it."""

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        runner.model.train_step(data_batch, runner.optim_wrapper)


def test_two_updates_with_all_gates_open_are_two_steps_of_plain_training(tmp_path):
    plain = trained(tmp_path / 'plain', STATIC, [dict(type='StepTwice')])
    gated = dict(FROZEN, target_rates=0.5, gate=dict(estimator='taught'))
    # Distances would not be 0: the weights have moved between the passes.
    hook = dict(type='mmdyn.PairedRoutesHook', updates=2, routed_weight=1.0, distances=[])
    paired = trained(tmp_path / 'paired', gated, [ATTACHED, hook], 'open')
    for name, value in plain.items():
        torch.testing.assert_close(paired[name], value, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f'{name} {text}')


def test_two_updates_are_one_with_all_blocks_open_and_one_as_decided(tmp_path):
    """The second starts from the weights after the first, and is drawn to the features of before it."""
    runner = toy_runner(tmp_path, dict(FROZEN, target_rates=0.5, gate=dict(estimator='taught')), iters=1, hooks=[
        ATTACHED, dict(type='mmdyn.PairedRoutesHook', updates=2, routed_weight=0.25, distance_weight=3.0)])
    runner.model.init_weights = lambda: None
    runner.model.double()
    wanted = copy.deepcopy(runner.model).train()
    wanted.backbone.losses_attached = True
    runner.model.data_preprocessor.register_forward_hook(lambda _, __, data: dict(data, inputs=data['inputs'].double()))
    forced = {name: torch.tensor([0.0, 1.0]) for name in runner.model.backbone.gates()}
    runner.model.backbone.force_decisions(forced)
    runner.train()

    images = torch.stack([Pictures()[i]['inputs'] for i in range(2)]).double()
    optimizer = torch.optim.SGD(wanted.parameters(), lr=0.01)
    features = None
    for decisions, weight in (('open', 1.0), (forced, 0.25)):
        wanted.backbone.force_decisions(decisions)
        loss = weight * wanted(images, samples(2), mode='loss')['loss_cls']
        outputs = wanted.backbone(images)[-1]
        if features is not None:
            loss = loss + 3 * map_distance(features, outputs).mean()
        features = outputs.detach()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, value in wanted.state_dict().items():
        if '.gate.' not in name:
            torch.testing.assert_close(runner.model.state_dict()[name], value, rtol=1e-10, atol=1e-12)
    assert runner.message_hub.get_scalar('train/loss_open').current() > 0


class Noisy(ImgDataPreprocessor):
    """Draws noise for each batch, as mixup and random sizes draw, and changes the labels in place."""

    def forward(self, data: dict, training: bool = False) -> dict:
        data = super().forward(data, training)
        for sample in data['data_samples']:
            sample.label = 1 - sample.label
        return dict(data, inputs=data['inputs'] + torch.randn(data['inputs'].shape))


def test_both_updates_see_the_same_images_and_labels(tmp_path):
    runner = toy_runner(tmp_path, dict(FROZEN, target_rates=0.5, gate=dict(estimator='taught')), hooks=[
        ATTACHED, dict(type='mmdyn.PairedRoutesHook', updates=2)])
    runner.model.data_preprocessor = Noisy()
    seen = []
    runner.model.register_forward_pre_hook(
        lambda _, args, data: seen.append((data['inputs'], [sample.label for sample in data['data_samples']])),
        with_kwargs=True)
    runner.train()
    assert len(seen) == 8
    for first, second in zip(seen[::2], seen[1::2]):
        assert torch.equal(first[0], second[0])
        assert first[1] == second[1] == [1, 0]
    assert not torch.equal(seen[0][0], seen[2][0])


def test_before_they_begin_two_updates_keep_no_batch():
    model, routes, _ = paired_model(updates=2)
    routes.active = False
    batch = model.float().data_preprocessor(dict(inputs=torch.randn(2, 3, 16, 16), data_samples=samples(2)), True)
    model(**batch, mode='loss')
    seen = weakref.ref(batch['inputs'])
    del batch
    gc.collect()
    assert seen() is None


def test_two_updates_and_accumulated_gradients_exclude_each_other(tmp_path):
    runner = toy_runner(tmp_path, dict(FROZEN, target_rates=0.5), hooks=[
        ATTACHED, dict(type='mmdyn.PairedRoutesHook', updates=2)],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01), accumulative_counts=2))
    with pytest.raises(ValueError, match='updates=2 .* expected optim_wrapper.accumulative_counts=1, got 2'):
        runner.train()


def paired_model(**options):
    torch.manual_seed(1)
    model = Classifier(dict(FROZEN, target_rates=0.5)).double().train()
    routes = PairedRoutes(model, **options)
    attachment = mmdyn.attach(model, [dict(type='mmdyn.TargetRateLoss')])
    return model, routes, attachment


def test_the_loss_is_the_mean_of_both_routes_and_their_distance():
    model, routes, attachment = paired_model(routed_weight=0.25)
    images, data = torch.randn(4, 3, 16, 16).double(), samples(4)
    losses = model(images, data, mode='loss')
    gates = {name: decision.detach() for name, decision in model.backbone.decisions.gates.items()}
    damage = model.backbone.decisions.damage
    attachment.remove()
    routes.remove()
    assert 0 < torch.stack(list(gates.values())).mean() < 1
    features, values = {}, {}
    for route, forced in (('open', 'open'), ('routed', gates)):
        model.backbone.force_decisions(forced)
        model.backbone.losses_attached = True
        features[route] = model.backbone(images)[-1]
        values[route] = model(images, data, mode='loss')['loss_cls']
    torch.testing.assert_close(losses['loss_cls'], 0.75 * values['open'] + 0.25 * values['routed'])
    wanted = map_distance(features['open'], features['routed'])
    torch.testing.assert_close(losses['loss_route_distance'], wanted.mean())
    torch.testing.assert_close(damage, wanted)
    assert not damage.requires_grad


def test_the_weight_of_the_distances_grows_over_the_training(tmp_path):
    hook = mmdyn.hooks.PairedRoutesHook(distance_weight=dict(start=1.0, stop=10.0, begin=0.25, end=0.75))
    runner = toy_runner(tmp_path, dict(FROZEN, target_rates=0.5, gate=dict(estimator='taught')), hooks=[ATTACHED])
    runner.register_hook(hook)
    seen = []
    runner.model.register_forward_hook(lambda *_: seen.append(hook.routes.distance_weight))
    runner.train()
    assert seen == [1.0, 1.0, 5.5, 10.0]
    # What it multiplies, the loss and what gates learn from:
    images, data = torch.randn(4, 3, 16, 16).double(), samples(4)
    values = {}
    for weight in (1.0, 10.0):
        model, routes, _ = paired_model()
        torch.manual_seed(2)
        routes.distance_weight = weight
        losses = model(images, data, mode='loss')
        values[weight] = losses['loss_route_distance'], model.backbone.decisions.damage, losses['loss_cls']
    for few, many in zip(values[1.0][:2], values[10.0][:2]):
        assert few.sum() > 0
        torch.testing.assert_close(many, 10 * few)
    assert values[1.0][2] == values[10.0][2]


def test_the_open_route_is_the_aim_and_is_not_drawn_to_the_other():
    opened = torch.randn(2, 3, 4, 4, requires_grad=True)
    routed = torch.randn(2, 3, 4, 4, requires_grad=True)
    Distance('x').between([opened], [routed], 2).sum().backward()
    assert opened.grad is None and routed.grad.abs().sum() > 0


def test_half_of_a_batch_is_open_and_the_losses_see_the_rest():
    model, _, _ = paired_model(twice=False)
    model(torch.randn(6, 3, 16, 16).double(), samples(6), mode='loss')
    assert len(model.backbone.decisions) == 3
    assert all(len(gate) == 3 for gate in model.backbone.decisions.gates.values())


def test_evaluation_and_the_network_afterwards_have_one_route():
    model, routes, _ = paired_model(twice=False)
    images = torch.randn(2, 3, 16, 16).double()
    scores = model.eval()(images)
    routes.remove()
    assert torch.equal(scores, model(images))
    model.train()(images, samples(2), mode='loss')
    assert len(model.backbone.decisions) == 2


def test_heads_are_compared_level_by_level_and_by_their_first_list():
    scores, boxes = [torch.randn(2, 3, n, n) for n in (4, 2)], [torch.randn(2, 12, n, n) for n in (4, 2)]
    assert list(map(id, _levels((scores, boxes)))) == list(map(id, scores))
    other = copy.deepcopy(scores)
    distance = Distance('bbox_head', 'scores')
    assert torch.equal(distance.between(scores, other, 2), torch.zeros(2))
    other[1][1].add_(1)
    first, second = distance.between(scores, other, 2)
    assert first == 0 and second > 0


def test_a_layer_that_is_called_for_each_level_is_compared_at_all_of_them():
    model, routes, _ = paired_model(distances=[Distance('head', 'logits')])
    forward, calls = Classifier.forward, []

    def twice(inputs, data_samples=None, mode='loss'):
        losses = forward(model, inputs, data_samples, mode)
        model.head(torch.ones(len(inputs), 8).double())
        calls.append(len(routes._seen['head']))
        return losses

    model.forward = twice
    model(torch.randn(2, 3, 16, 16).double(), samples(2), mode='loss')
    assert calls == [2, 2]


@pytest.mark.parametrize('parts, expected', [
    (dict(), Distance('backbone', 'maps')),
    (dict(neck=1), Distance('neck', 'maps')),
    (dict(neck=1, bbox_head=Parts(use_sigmoid_cls=True)), Distance('bbox_head', 'scores')),
    (dict(neck=1, bbox_head=Parts(use_sigmoid_cls=False)), Distance('neck', 'maps')),
    (dict(neck=1, bbox_head=Parts()), Distance('neck', 'maps')),
    (dict(neck=1, bbox_head=type('TOODHead', (Parts, ), {})(use_sigmoid_cls=True)), Distance('neck', 'maps')),
])
def test_what_is_compared_by_default(parts, expected):
    assert default_distance(Parts(backbone=1, **parts)) == expected


def test_a_classifier_of_ones_own_is_compared_by_its_logits():
    imported = type('ImageClassifier', (Parts, ), dict(__module__='mmpretrain.models.classifiers.image'))
    own = type('Own', (imported, ), {})
    assert default_distance(own(backbone=1, neck=1)) == Distance('head', 'logits')


@pytest.mark.parametrize('optimizer', [dict(type='AdamW', lr=0.01), dict(type='SGD', lr=0.01, momentum=0.9),
                                       dict(type='SGD', lr=0.01, weight_decay=0.1)])
def test_the_open_update_leaves_gates_where_they_are(tmp_path, optimizer):
    runner = toy_runner(tmp_path, dict(FROZEN, target_rates=0.5), optim_wrapper=dict(optimizer=optimizer), hooks=[
        dict(ATTACHED, losses=[dict(type='mmdyn.TargetRateLoss')]), dict(type='mmdyn.PairedRoutesHook', updates=2)])
    gate = next(iter(runner.model.backbone.gates().values()))
    before_each_pass, after = [], []
    runner.model.register_forward_pre_hook(lambda *_: before_each_pass.append(gate.fc1.weight.detach().clone()))
    runner.train()
    opened, routed, after = before_each_pass[2::2], before_each_pass[3::2], before_each_pass[4::2]
    for first, second, third in zip(opened, routed, after):
        assert torch.equal(first, second) and not torch.equal(second, third)


@pytest.mark.parametrize('updates', [1, 2])
def test_until_they_begin_gates_rest(tmp_path, updates):
    """Their gradients are zero, but weight decay would shrink them."""
    runner = toy_runner(tmp_path, dict(FROZEN, target_rates=0.5), optim_wrapper=dict(
        optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.1)), hooks=[
            dict(ATTACHED, losses=[dict(type='mmdyn.TargetRateLoss')]),
            dict(type='mmdyn.PairedRoutesHook', updates=updates, begin=0.5)])
    gate = next(iter(runner.model.backbone.gates().values()))
    seen = []
    runner.register_hook(SeeWeights(gate, seen))
    runner.train()
    moved = [not torch.equal(first, second) for first, second in zip(seen, seen[1:])]
    assert moved == [False, False, True, True]


class SeeWeights(Hook):

    def __init__(self, gate, seen):
        self.gate, self.seen = gate, seen

    def before_train(self, runner):
        self.seen.append(self.gate.fc1.weight.detach().clone())

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen.append(self.gate.fc1.weight.detach().clone())


class Greedy(Classifier):
    """Takes what its samples hold, as a head of MMDetection takes proposals."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'loss':
            for sample in data_samples:
                sample.proposals.priors = sample.proposals.pop('bboxes')
        return super().forward(inputs, data_samples, mode)


class Proposed(Pictures):

    def __getitem__(self, index):
        item = super().__getitem__(index)
        item['data_samples'].proposals = InstanceData(bboxes=torch.rand(3, 4))
        return item


@pytest.mark.parametrize('updates', [1, 2])
def test_each_pass_has_samples_of_its_own(tmp_path, updates):
    backbone = dict(FROZEN, target_rates=0.5)
    runner = toy_runner(tmp_path, backbone, model=Greedy(backbone), train_dataloader=dict(
        dataset=Proposed(), batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False)), hooks=[
            dict(ATTACHED, losses=[dict(type='mmdyn.TargetRateLoss')]),
            dict(type='mmdyn.PairedRoutesHook', updates=updates)])
    runner.train()
    assert runner.iter == 4


def test_a_loss_without_gradients_is_that_of_one_pass():
    model, routes, _ = paired_model()
    with torch.no_grad():
        assert 'loss_route_distance' not in model(torch.randn(2, 3, 16, 16).double(), samples(2), mode='loss')


def test_a_copy_of_the_model_compares_its_own_features():
    model, routes, _ = paired_model()
    copied = copy.deepcopy(model)
    assert 'loss_route_distance' in copied(torch.randn(2, 3, 16, 16).double(), samples(2), mode='loss')
    assert not routes._seen


class OnSeveralGPUs(DistributedDataParallel):

    def __init__(self, model, static_graph):
        torch.nn.Module.__init__(self)
        self.module, self.static_graph = model, static_graph


@pytest.mark.parametrize('static_graph, with_cp, refused', [(False, True, True), (True, True, False), (False, False, False)])
def test_checkpointed_blocks_on_several_gpus_want_two_updates(static_graph, with_cp, refused):
    model = OnSeveralGPUs(Classifier(dict(FROZEN, target_rates=0.5, with_cp=with_cp)), static_graph)
    with pytest.raises(ValueError, match='expected updates=2') if refused else contextlib.nullcontext():
        _require_one_backward(model)


def test_what_is_logged_is_not_weighted(tmp_path):
    model, routes, _ = paired_model(updates=2, routed_weight=0.25, distances=[])
    losses = Classifier.forward(model, torch.randn(2, 3, 16, 16).double(), samples(2), 'loss')
    model.forward = lambda inputs, data_samples=None, mode='loss': dict(losses, acc=torch.tensor(80.0))
    output = model(torch.randn(2, 3, 16, 16).double(), samples(2), mode='loss')
    assert output['acc'] == 80 and output['loss_cls'] == 0.25 * losses['loss_cls']


def test_what_a_frozen_stage_gives_is_compared_too(tmp_path):
    backbone = dict(FROZEN, target_rates=0.5, frozen_stages=1, zero_init_residual=False)
    runner = toy_runner(tmp_path, backbone, hooks=[
        ATTACHED, dict(type='mmdyn.PairedRoutesHook', distances=[dict(module='backbone.layer1')])])
    runner.train()
    assert runner.message_hub.get_scalar('train/loss_route_distance').current() > 0


def test_bad_options():
    for options, message in [
        (dict(form='both'), "form must be 'twice' or 'half', got 'both'"),
        (dict(routed_weight=1), 'routed_weight must lie between 0 and 1, got 1'),
        (dict(routed_weight=0, updates=2), 'routed_weight must lie between 0 and 1, got 0'),
        (dict(updates=3), "updates must be 1, or 2 with form='twice', got 3 with form='twice'"),
        (dict(updates=2, form='half'), "updates must be .* got 2 with form='half'"),
        (dict(begin=2), 'begin must lie in'),
        (dict(distance_weight=-1), 'distance_weight must lie in'),
        (dict(distance_weight=dict(start=1, stop=10, begin=0.8, end=0.4)), 'end must lie in .0.8, 1.0., got 0.4'),
        (dict(form='half', distance_weight=10.0), "form='half' compares nothing.* got 10.0"),
        (dict(form='half', distances=[dict(module='neck')]), 'no image on both routes'),
        (dict(distance_weight=dict(begin=0.5)), 'expects a number, or a dict of start and stop'),
        (dict(distances=dict(module='neck')), 'expects a list of dict.module=<name>'),
        (dict(distances=[dict(kind='maps')]), 'expects a list of dict.module=<name>'),
        (dict(distances=[dict(module='neck', kind='colours')]), "kind of a distance must be one of .* got 'colours'"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            mmdyn.hooks.PairedRoutesHook(**options)


def test_models_without_gates_and_modules_that_are_not_there_are_named():
    with pytest.raises(ValueError, match='paired routes need a backbone whose gates decide .* Classifier has none'):
        PairedRoutes(Classifier({**{k: v for k, v in FROZEN.items()}, 'type': 'mmdet.ResNet'}))
    with pytest.raises(ValueError, match='has confidence gates'):
        PairedRoutes(Classifier(dict(FROZEN, gate=dict(num_classes=2))))
    with pytest.raises(ValueError, match=r"no module 'neck'; it has \['data_preprocessor', 'backbone', 'head'\]"):
        PairedRoutes(Classifier(dict(FROZEN, target_rates=0.5)), distances=[Distance('neck')])


@pytest.mark.parametrize('module, kind, shapes', [
    ('head', 'maps', r'\[\(4, 2\)\] in the open pass, \[\(4, 2\)\] in the routed one'),
    ('backbone.layer1.0.conv1', 'logits', r'dimensions, the first of them the 4 images of the batch; .*'),
    ('backbone.layer1.1.gate', 'logits', r'\[\] in the open pass'),  # which is not asked in the open pass
])
def test_what_is_not_one_row_an_image_is_named(module, kind, shapes):
    model, _, _ = paired_model(distances=[Distance(module, kind)])
    with pytest.raises(ValueError, match=f"distances: kind '{kind}' compares tensors of .*{shapes}"):
        model(torch.randn(4, 3, 16, 16).double(), samples(4), mode='loss')


def test_scores_of_what_each_pass_samples_are_not_compared():
    proposals = Distance('roi_head.bbox_head.fc_cls', 'logits')
    with pytest.raises(ValueError, match=r'the 2 images of the batch; .*gave \[\(128, 4\)\] in the open pass'):
        proposals.between([torch.randn(128, 4)], [torch.randn(128, 4)], 2)


@pytest.mark.parametrize('first, second, message', [
    (dict(loss_a=1), dict(loss_b=1), r"the same ones of each, got \['loss_b'\] of the open and \['loss_a'\]"),
    (dict(loss_a=[1, 1]), dict(loss_a=[1]), "got 1 and 2 in the list 'loss_a'"),
])
def test_passes_with_other_losses_are_named(first, second, message):
    model, _, _ = paired_model(distances=[])
    outputs = iter([first, second])  # the routed pass is the first
    model.forward = lambda inputs, data_samples=None, mode='loss': {
        name: torch.as_tensor(value) if isinstance(value, int) else [torch.ones(()) for _ in value]
        for name, value in next(outputs).items()}
    with pytest.raises(ValueError, match=message):
        model(torch.randn(2, 3, 16, 16).double(), samples(2), mode='loss')


def test_one_image_a_batch_has_no_half(tmp_path):
    model, _, _ = paired_model(twice=False)
    with pytest.raises(ValueError, match='expected at least 2 images a batch, got 1'):
        model(torch.randn(1, 3, 16, 16).double(), samples(1), mode='loss')


@pytest.mark.parametrize('length, options, message', [
    (8, dict(batch_size=1), 'got train_dataloader.batch_size=1'),
    (9, dict(batch_size=2), r'got 1 in the last batch \(9 images by 2\): set train_dataloader.drop_last=True'),
    (9, dict(batch_size=2, drop_last=True), None),
    (9, dict(batch_size=2, sampler=dict(type='InfiniteSampler', shuffle=False)), None),
])
def test_a_lone_last_image_is_named_before_the_training(tmp_path, length, options, message):
    loader = dict(dict(num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False)), **options)
    runner = toy_runner(tmp_path, dict(FROZEN, target_rates=0.5), iters=5, hooks=[
        ATTACHED, dict(type='mmdyn.PairedRoutesHook', form='half')],
        train_dataloader=dict(loader, dataset=Pictures(length)))
    if message is None:
        runner.train()
        return
    with pytest.raises(ValueError, match=message):
        runner.train()
    assert runner.iter == 0


def test_two_hooks_are_one_too_many(tmp_path):
    runner = toy_runner(tmp_path, dict(FROZEN, target_rates=0.5),
                        hooks=[ATTACHED, *[dict(type='mmdyn.PairedRoutesHook')] * 2])
    with pytest.raises(ValueError, match='expected one PairedRoutesHook, got several'):
        runner.train()
