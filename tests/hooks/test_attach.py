"""attach: losses and decisions reach the model's own outputs."""
import copy
import pickle
from functools import partial

import pytest
import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import BaseDataElement
from toy import SMALL_AIG, Classifier

import mmdyn
from mmdyn.losses import TargetRateLoss


def samples(n: int) -> list:
    return [BaseDataElement(label=i % 2) for i in range(n)]


def attached(target_rates, losses=None, **options):
    model = Classifier(dict(SMALL_AIG, target_rates=target_rates, **options))
    losses = [dict(type='mmdyn.TargetRateLoss', loss_weight=2.0)] if losses is None else losses
    return model.train(), mmdyn.attach(model, losses)


def test_the_loss_dict_gains_the_loss_and_the_open_rate():
    model, _ = attached(0.5)
    losses = model(torch.randn(4, 3, 16, 16), samples(4), mode='loss')
    assert set(losses) == {'loss_cls', 'loss_target_rate', 'open_rate'}
    gates = torch.stack(list(model.backbone.decisions.gates.values()))
    wanted = 2 * (gates.mean(1) - 0.5).square().mean()
    torch.testing.assert_close(losses['loss_target_rate'], wanted)
    torch.testing.assert_close(losses['open_rate'], gates.mean())
    total, log = model.parse_losses(losses)
    torch.testing.assert_close(total, losses['loss_cls'] + losses['loss_target_rate'])


def test_no_loss_appears_when_nothing_has_a_target():
    model, _ = attached(None)
    assert set(model(torch.randn(4, 3, 16, 16), samples(4), mode='loss')) == {'loss_cls', 'open_rate'}
    model, _ = attached(1)
    assert set(model(torch.randn(4, 3, 16, 16), samples(4), mode='loss')) == {'loss_cls'}


@pytest.mark.parametrize('with_cp', [False, True])
def test_once_an_iteration_with_the_gradient_of_every_gate(with_cp):
    calls = []

    class Counting(TargetRateLoss):

        def forward(self, decisions):
            calls.append(decisions)
            return super().forward(decisions)

    model, _ = attached(0.5, [Counting()], with_cp=with_cp)
    losses = model(torch.randn(4, 3, 16, 16), samples(4), mode='loss')
    losses['loss_target_rate'].backward()
    assert len(calls) == 1
    for gate in model.backbone.deciders():
        assert gate.fc2.bias.grad is not None and gate.fc2.bias.grad.isfinite().all()
    assert sum(g.fc2.bias.grad.abs().sum() for g in model.backbone.deciders()) > 0


def test_every_prediction_gets_its_own_decisions():
    model, _ = attached(0.5)
    model.eval().backbone.force_decisions({'layer1.1': [1, 0, 1]})
    predictions = model(torch.randn(3, 3, 16, 16), samples(3), mode='predict')
    assert [p.decisions.gates['layer1.1'].tolist() for p in predictions] == [[1], [0], [1]]


def with_class_loss():
    return attached([1, 1, 1, None], [dict(type='mmdyn.GateClassLoss', classifier='head')], gate=dict(num_classes=2))


@pytest.mark.parametrize('mixed', [False, True])
def test_losses_that_need_labels_get_those_of_the_samples(mixed):
    model, _ = with_class_loss()
    labels = torch.tensor([[0.2, 0.8], [1, 0], [0.5, 0.5]]) if mixed else torch.tensor([1, 0, 1])
    marked = [BaseDataElement(label=0, **({'gt_score': label} if mixed else {'gt_label': label[None]}))
              for label in labels]
    losses = model(torch.randn(3, 3, 16, 16), marked, mode='loss')
    features, = model.backbone.decisions.gate_features.values()
    wanted = torch.nn.functional.cross_entropy(model.head(features), labels)
    torch.testing.assert_close(losses['loss_gate_class'], wanted)


def test_samples_without_labels_are_refused_where_labels_are_needed():
    model, _ = with_class_loss()
    with pytest.raises(ValueError, match='GateClassLoss expects data samples with a gt_label each.*BaseDataElement'):
        model(torch.randn(3, 3, 16, 16), samples(3), mode='loss')


def test_gates_follow_the_classifier_before_each_forward_of_a_copy_too():
    model, attachment = with_class_loss()
    copied = copy.deepcopy(model)
    for each in (model, copied):
        torch.nn.init.normal_(each.head.weight)
        each.eval()(torch.randn(1, 3, 16, 16), samples(1), mode='predict')
        assert torch.equal(each.backbone.layer2[1].gate.fc.weight, each.head.weight)
    attachment.remove()
    torch.nn.init.normal_(model.head.weight)
    model(torch.randn(1, 3, 16, 16))
    assert not torch.equal(model.backbone.layer2[1].gate.fc.weight, model.head.weight)


@pytest.mark.parametrize('open_probability', ['calibrated', 0.5])
def test_the_calibration_follows_training_where_it_is_used(open_probability):
    model, _ = attached(0.5, open_probability=open_probability)
    model(torch.randn(4, 3, 16, 16), samples(4), mode='loss')
    for gate in model.backbone.deciders():
        assert (gate.calibration_steps == 1) == (gate.quantile != 0) == (open_probability == 'calibrated')


def test_what_is_averaged_over_all_ranks_is_so_in_one_operation(monkeypatch):
    """The open rates for the loss and the log, and what calibration needs."""
    calls = []
    monkeypatch.setattr('mmdyn.layers.global_mean.dist.get_world_size', lambda: 2)
    monkeypatch.setattr('mmdyn.layers.global_mean.dist.all_reduce', lambda values: calls.append(values.shape))
    model, _ = attached([0.25, 0.5, None, 1], open_probability=0.5)
    losses = model(torch.randn(4, 3, 16, 16), samples(4), mode='loss')
    rates = torch.stack(list(model.backbone.decisions.gates.values())).mean(dim=1)
    torch.testing.assert_close(losses['loss_target_rate'], 2 * (rates[:2] - torch.tensor([0.25, 0.5])).square().mean())
    assert calls == [(4, )]  # three gates, and the number of images
    calls.clear()
    model, _ = attached(0.5, open_probability='calibrated')
    model(torch.randn(4, 3, 16, 16), samples(4), mode='loss')
    assert calls == [(4 + 8 + 1, )]


def test_remove_and_copies():
    model, attachment = attached(0.5)
    copied = copy.deepcopy(model)  # as EMA does
    assert 'loss_target_rate' in copied(torch.randn(2, 3, 16, 16), samples(2), mode='loss')
    attachment.remove()
    with pytest.raises(RuntimeError, match='mmdyn.attach'):
        model(torch.randn(2, 3, 16, 16), samples(2), mode='loss')


def test_a_model_without_dynamic_backbone_is_refused():
    with pytest.raises(ValueError, match='Linear has no dynamic backbone'):
        mmdyn.attach(torch.nn.Linear(1, 1))


def test_twice_is_refused():
    model, _ = attached(0.5)
    with pytest.raises(ValueError, match='attached already'):
        mmdyn.attach(model)


class Augmented(BaseTTAModel):
    """Two views of each image, of which the first is kept."""

    def test_step(self, data):
        views = [self.module(images, samples(2), mode='predict') for images in (data, data.flip(3))]
        return self.merge_preds(list(zip(*views)))

    def merge_preds(self, data_samples_list):
        return [first for first, *_ in data_samples_list]


def test_wrappers_hand_decisions_on():
    torch.manual_seed(0)
    model, _ = attached(0.5, losses=[])
    images = torch.randn(2, 3, 16, 16)
    wanted = model.eval()(images, samples(2), mode='predict')
    for wrapper, predict in ((Augmented, lambda wrapped: wrapped.test_step(images)),
                             (partial(torch.compile, backend='eager'),
                              lambda wrapped: wrapped(images, samples(2), mode='predict'))):
        copied = Classifier(dict(SMALL_AIG, target_rates=0.5)).eval()
        copied.load_state_dict(model.state_dict())
        wrapped = wrapper(copied)
        mmdyn.attach(wrapped)
        for sample, own in zip(predict(wrapped), wanted):
            assert sample.cost == own.cost
            for name, decision in own.decisions.gates.items():
                assert torch.equal(sample.decisions.gates[name], decision)


def test_a_model_that_was_attached_can_be_pickled():
    model, _ = attached(0.5)
    model.eval()(torch.randn(2, 3, 16, 16), samples(2), mode='predict')
    again = pickle.loads(pickle.dumps(model))
    assert again(torch.randn(2, 3, 16, 16), samples(2), mode='predict')[0].cost.dense_macs > 0


def test_a_model_without_modes_is_refused():
    with pytest.raises(ValueError, match='whose forward has a mode .* got Sequential'):
        mmdyn.attach(torch.nn.Sequential(Classifier(dict(SMALL_AIG, target_rates=0.5)).backbone))
