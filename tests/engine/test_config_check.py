"""Names that nothing has, and numbers that are none, are found before anything is built."""
import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS, METRICS, MODELS
from toy import SMALL_AIG

from mmdyn.engine import InputError, check_config
from mmdyn.registry import check_options, options_of

HOOK = dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.TargetRateLoss', loss_weight=1.0)])


def config(**changes) -> Config:
    sound = dict(
        model=dict(type='FasterRCNN', backbone=dict(SMALL_AIG, target_rates=0.5, gate=dict(norm='LN'))),
        custom_hooks=[dict(HOOK, priority='LOW'), dict(type='mmdyn.CalibrationHook')],
        val_evaluator=[dict(type='mmdyn.ComputeMetric', prefix='cost')],
        optim_wrapper=dict(type='mmdyn.AutocastOptimWrapper', optimizer=dict(type='SGD', lr=0.1), paramwise_cfg=dict()))
    return Config({**sound, **changes})


def test_a_sound_config_passes():
    check_config(config())
    check_config(config(custom_hooks=[dict(type='mmdyn.EMAHook')]))  # MMEngine looks for it in its own registry, too


@pytest.mark.parametrize('changes, message', [
    (dict(model=dict(backbone=dict(SMALL_AIG, target_rate=0.5))),
     'model.backbone: AIGResNet has no option target_rate; did you mean target_rates?'),
    (dict(model=dict(backbone=dict(SMALL_AIG, dept=50))), 'AIGResNet has no option dept; did you mean depth?'),
    (dict(model=dict(backbone=dict(type='mmdyn.AIGResNt'))),
     'model.backbone.type: mmdyn has no AIGResNt; did you mean AIGResNet?'),
    (dict(custom_hooks=[dict(type='mmdyn.DynamicModelHok')]),
     'custom_hooks.0.type: mmdyn has no DynamicModelHok; did you mean DynamicModelHook?'),
    (dict(custom_hooks=[dict(HOOK, losses=[dict(type='mmdyn.TargetRateLoss', los_weight=1)])]),
     'custom_hooks.0.losses.0: TargetRateLoss has no option los_weight; did you mean loss_weight?'),
    (dict(custom_hooks=[dict(HOOK, xyz=3)]),
     'custom_hooks.0: DynamicModelHook has no option xyz; expected one of interval, losses, stuck_after'),
    (dict(val_evaluator=dict(type='mmdyn.ComputeMetric', dumb='a.json')),
     'val_evaluator: ComputeMetric has no option dumb; did you mean dump?'),
    (dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=float('nan')))),
     'optim_wrapper.optimizer.lr: expected a number, got nan'),
])
def test_each_mistake_is_named_with_its_key(changes, message):
    with pytest.raises(InputError) as caught:
        check_config(config(**changes))
    assert message in str(caught.value)


def test_all_mistakes_come_at_once():
    with pytest.raises(InputError, match='lr: expected a number, got nan; custom_hooks.0.type: mmdyn has no X'):
        check_config(Config(dict(lr=float('nan'), custom_hooks=[dict(type='mmdyn.X')])))


@pytest.mark.parametrize('registry, kind, message', [
    (HOOKS, 'DynamicModelHok', 'mmdyn has no such hook; did you mean DynamicModelHook?'),
    (MODELS, 'AIGResNt', 'mmdyn has no such model; did you mean AIGResNet?'),
    (METRICS, 'Cost', 'mmdyn has no such metric; expected one of ComputeMetric'),
])
def test_the_registries_name_the_nearest_type_to_any_program(registry, kind, message):
    with pytest.raises(KeyError) as caught:
        registry.build(dict(type=f'mmdyn.{kind}'))
    assert caught.value.args[0] == f'mmdyn.{kind}: {message}'


@pytest.mark.parametrize('kind', ['AIGResNet', 'AIGRegNet', 'DGResNeXt', 'DGMobileNetV2'])
def test_backbones_name_the_nearest_option_to_any_program(kind):
    with pytest.raises(TypeError, match=f'{kind} has no option out_indice; did you mean out_indices?'):
        MODELS.build(dict(type=f'mmdyn.{kind}', out_indice=(3, )))


def test_options_are_those_of_the_class_and_of_what_it_hands_arguments_on_to():

    class Base:

        def __init__(self, depth, *, width=1):
            pass

    class Closed(Base):

        def __init__(self, *args, colour='red', **kwargs):
            pass

    class Open:

        def __init__(self, **kwargs):
            pass

    assert options_of(Closed) == {'depth', 'width', 'colour'}
    assert options_of(type('Open', (Open, ), {})) is None
    check_options(Open, ['whatever'])
    with pytest.raises(TypeError, match='Closed has no option widht; did you mean width?'):
        check_options(Closed, ['colour', 'widht'])
