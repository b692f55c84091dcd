"""The costs at all sizes follow exactly from those at a few; where they do not, each size is counted."""
import pytest
from test_account import AIG, DG, build
from toy import Classifier

import mmdyn
from mmdyn.cost import CostAccount, account, scaling
from mmdyn.cost.scaling import PROBES, STRIDES, scaling_rules

SIZES = [(1, 1), (32, 32), (31, 65), (224, 225), (97, 480), (800, 1344)]
ATTENTION = [dict(cfg=dict(type='NonLocal2d', reduction=2), stages=(False, False, True, False), position='after_conv2')]


@pytest.mark.parametrize('config', AIG + DG, ids=lambda config: '-'.join(map(str, list(config.values())[:2])))
def test_costs_are_those_that_are_counted(config):
    costs = CostAccount(build(config))
    costs.prepare()
    assert costs._rules is not None
    for size in SIZES:
        counted, _ = costs._run(size)
        assert {name: macs for name, macs in costs._count(size).items() if macs} == counted, size


def test_what_grows_otherwise_is_counted_at_each_size():
    """Attention costs the square of the cells."""
    costs = CostAccount(build(dict(AIG[2], plugins=ATTENTION)))
    assert costs.dense_macs((64, 64)) == sum(costs._run((64, 64))[0].values())
    assert costs._rules is None
    assert scaling_rules([dict(attention=(h * w)**2) for h, w in PROBES]) is None


@pytest.mark.parametrize('stride', STRIDES)
def test_the_probes_tell_strides_apart(stride):
    counts = [dict(conv=7 * -(-h // stride) * -(-w // stride), gate=5) for h, w in PROBES]
    rules = scaling_rules(counts)
    assert rules['conv']((1000, 2001)) == 7 * -(-1000 // stride) * -(-2001 // stride) and rules['gate']((9, 9)) == 5


def test_a_new_size_in_training_runs_no_forward(monkeypatch):
    model = Classifier(AIG[0])
    runs, count_macs = [], account.count_macs
    monkeypatch.setattr(account, 'count_macs', lambda copied, size: runs.append(size) or count_macs(copied, size))
    attachment = mmdyn.attach(model, [dict(type='mmdyn.ComputeBudgetLoss', target=0.5)])
    assert runs == list(scaling.PROBES)
    for size in SIZES:
        attachment.accounts['backbone'].dense_macs(size)
    assert len(runs) == len(PROBES)
