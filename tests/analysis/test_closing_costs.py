"""What closing a gate costs: the losses are those of the forced network, the derivatives those of the masked one."""
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from toy import SMALL_AIG, Classifier, Pictures

from mmdyn.analysis.closing_costs import ClosingCost, ClosingCosts, load_own_or_static, rank_correlation, table
from mmdyn.checkpoints import CheckpointError
from mmdyn.engine import InputError


def model_and_image(backbone=SMALL_AIG):
    torch.manual_seed(0)
    model = Classifier(dict(backbone, **({} if backbone is LINEAR else dict(zero_init_residual=False)))).double()
    data = model.data_preprocessor(pseudo_collate([Pictures()[0]]), False)
    return model, dict(data, inputs=data['inputs'].double())


# Blocks without an activation after their sum; of the others the rectifier bends where closed, at a shortcut of 0.
LINEAR = dict(type='mmdyn.AIGMobileNetV2', widen_factor=0.25, out_indices=(0, ), norm_eval=True)


@pytest.mark.parametrize('backbone', [SMALL_AIG, LINEAR], ids=['rectified', 'linear'])
def test_the_change_is_that_of_the_loss_and_the_ends_are_its_derivatives(backbone):
    model, data = model_and_image(backbone)
    costs = ClosingCosts(model).of_image(data)
    assert list(costs) == list(model.backbone.gates())

    def loss(name: str, value: float) -> float:
        # Near the ends the branch is scaled: what the user may not force, so it is set behind the check.
        opened = dict.fromkeys(costs, 1.0) | {name: value}
        model.backbone._forced = {other: torch.tensor([each], dtype=torch.float64) for other, each in opened.items()}
        with torch.no_grad():
            return model(**data, mode='loss')['loss_cls'].item()

    step = 1e-6
    for name, cost in costs.items():
        assert cost.change == pytest.approx(loss(name, 0.0) - loss(name, 1.0), abs=1e-12)
        assert cost.at_open == pytest.approx((loss(name, 1 - step) - loss(name, 1 + step)) / (2 * step), abs=1e-6)
        if backbone is LINEAR:
            assert cost.at_closed == pytest.approx((loss(name, -step) - loss(name, step)) / (2 * step), abs=1e-6)


def test_a_group_closes_together():
    model, data = model_and_image(dict(SMALL_AIG, depth=34, gate_groups=[['layer1.1', 'layer1.2']]))
    costs = ClosingCosts(model).of_image(data)
    assert 'layer1.2' not in costs and costs['layer1.1'].change != 0
    alone = ClosingCosts(model_and_image(dict(SMALL_AIG, depth=34))[0]).of_image(data)
    assert costs['layer1.1'].share == pytest.approx(alone['layer1.1'].share + alone['layer1.2'].share, rel=0.01)


def test_rank_correlation():
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([1.0, 10, 1000])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    assert np.isnan(rank_correlation(np.array([1.0, 1]), np.array([1.0, 2])))
    assert np.isnan(rank_correlation(np.array([1.0, 2]), np.array([np.nan, np.nan])))


def test_the_table_has_a_line_for_each_gate():
    costs = [{'layer1.0': ClosingCost(0.1 * n, 0.0, 0.2 * n, -n, 0.1)} for n in range(3)]
    read = {'layer1.0': [np.array([float(n)]) for n in range(3)]}
    by_block = {line.split()[0]: line.split() for line in table(costs, read).splitlines()[2:]}
    *told, fitted = by_block['layer1.0']
    assert told == ['layer1.0', '0.1000', '0.0816', '0.00', '2.00', '1.00', 'nan', '1.00', '1.00', '-1.00']
    assert fitted == '-1.00'  # of three images, two say less of the third than the mean of the two misleads
    assert by_block['all'][1:] == by_block['layer1.0'][1:]
    assert by_block['the'][-5:] == ['nan'] * 5  # one gate has no rank
    nothing = [{'layer4.1': ClosingCost(0.0, 0.0, 0.0, 0.0, 0.1)}] * 2
    assert table(nothing, {'layer4.1': [np.zeros(1)] * 2}).splitlines()[2].split()[3:] == ['nan'] * 8


def test_a_static_network_has_gates_that_say_nothing(tmp_path):
    model, data = model_and_image()
    parent = model_and_image(dict(SMALL_AIG, target_rates=1))[0]
    torch.save(parent.state_dict(), tmp_path / 'static.pth')
    assert load_own_or_static(model, str(tmp_path / 'static.pth')).endswith('the checkpoint of a static network')
    costs = ClosingCosts(model).of_image(data)
    assert all(np.isnan(cost.logit) and cost.change != 0 for cost in costs.values())
    torch.save(model.state_dict(), tmp_path / 'own.pth')
    assert 'static' not in load_own_or_static(model, str(tmp_path / 'own.pth'))
    torch.save({name: value for name, value in parent.state_dict().items() if 'conv1' not in name}, tmp_path / 'less.pth')
    with pytest.raises(CheckpointError, match='missing'):
        load_own_or_static(model, str(tmp_path / 'less.pth'))


def test_a_backbone_without_gates_is_refused():
    model, _ = model_and_image(dict(SMALL_AIG, target_rates=1))
    with pytest.raises(InputError, match='expected a backbone with gates, this AIGResNet has none'):
        ClosingCosts(model)


def test_what_gates_read_is_kept_once_an_image():
    model, data = model_and_image()
    measure = ClosingCosts(model)
    measure.of_image(data)
    measure.of_image(data)
    assert {name: np.shape(read) for name, read in measure.read.items()} == {
        name: (2, gate.fc1.in_features) for name, gate in model.backbone.gates().items()}
