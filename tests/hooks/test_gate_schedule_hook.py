"""The schedule of the gates' noise."""
import pytest
from toy import SMALL_AIG, toy_runner

from mmdyn.hooks import GateScheduleHook


def test_linear_between_begin_and_end():
    hook = GateScheduleHook(start=1.0, stop=0.2, begin=0.25, end=0.75)
    assert [hook.value_at(p) for p in (0, 0.25, 0.5, 0.75, 1)] == \
        pytest.approx([1.0, 1.0, 0.6, 0.2, 0.2])


def test_a_step_where_begin_is_end():
    hook = GateScheduleHook(begin=0.5, end=0.5)
    assert [hook.value_at(p) for p in (0, 0.49, 0.5, 1)] == [1.0, 1.0, 0.0, 0.0]


def test_by_default_noise_ends_and_closing_begins():
    for attribute, start in (('noise', 1.0), ('closing', 0.0)):
        hook = GateScheduleHook(attribute=attribute)
        assert (hook.value_at(0), hook.value_at(1)) == (start, 1.0 - start)


def test_it_sets_every_gate(tmp_path):
    runner = toy_runner(tmp_path, SMALL_AIG, hooks=[
        dict(type='mmdyn.GateScheduleHook', end=0.75),
        dict(type='mmdyn.GateScheduleHook', attribute='temperature', start=2.0, stop=1.0, end=0.5)])
    runner.train()
    for gate in runner.model.backbone.deciders():
        assert (gate.noise, gate.temperature) == (0.0, 1.0)


def test_gates_without_the_attribute_are_named(tmp_path):
    runner = toy_runner(tmp_path, dict(SMALL_AIG, gate=dict(num_classes=2)), hooks=[dict(type='mmdyn.GateScheduleHook')])
    with pytest.raises(ValueError, match="attribute 'noise', that of layer1.0 is a ConfidenceGate, which has none"):
        runner.train()


@pytest.mark.parametrize('options, message', [
    (dict(attribute='width'), "attribute must be one of .* got 'width'"),
    (dict(start=-1), 'start must lie in'),
    (dict(attribute='temperature', stop=0), 'stop must lie in'),
    (dict(attribute='closing', start=2), 'start must lie in .0.0, 1.0., got 2'),
    (dict(begin=0.6, end=0.5), 'end must lie in'),
])
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        GateScheduleHook(**options)
