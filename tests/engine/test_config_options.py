"""What --amp changes in a config."""
import pytest
from mmengine.config import Config
from mmengine.device import get_device

from mmdyn.engine import InputError
from mmdyn.engine.config_options import set_mixed_precision

on_a_cpu = pytest.mark.skipif(get_device() != 'cpu', reason='with an accelerator --amp means float16')


def config(**model):
    return Config(dict(model=model, optim_wrapper=dict(type='OptimWrapper', loss_scale='dynamic')))


@on_a_cpu
def test_cpus_train_in_bfloat16_which_needs_no_loss_scale():
    cfg = config(bbox_head=dict())
    set_mixed_precision(cfg)
    assert cfg.optim_wrapper == dict(type='mmdyn.AutocastOptimWrapper')


@on_a_cpu
def test_proposals_on_a_cpu_are_refused():
    with pytest.raises(InputError, match='expected a GPU, or a model without rpn_head; or leave --amp out'):
        set_mixed_precision(config(rpn_head=dict()))


def test_another_wrapper_is_refused():
    with pytest.raises(InputError, match='replaces an OptimWrapper, the config has optim_wrapper.type = Mine'):
        set_mixed_precision(Config(dict(optim_wrapper=dict(type='Mine'))))
