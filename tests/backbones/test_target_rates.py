"""Every form of the target_rates option, and the errors of the wrong ones."""
import pytest

from mmdyn.backbones.target_rates import resolve_target_rates


def resolve(rates, number, depth, always_run=()):
    names = [f'layer1.{i}' for i in range(number)]
    resolved = resolve_target_rates(rates, names, [names[i] for i in always_run], depth)
    assert list(resolved) == names
    return list(resolved.values())


def test_a_number_a_list_and_none():
    assert resolve(0.6, 3, 50) == [0.6] * 3
    assert resolve([1, None, 0.5], 3, 50) == [1.0, None, 0.5]
    assert resolve(None, 2, 50) == [None, None]


def test_blocks_without_a_shortcut_always_run():
    assert resolve(0.6, 3, None, always_run=[1]) == [0.6, 1, 0.6]
    assert resolve(None, 3, None, always_run=[0]) == [1, None, None]
    assert resolve([1, 0.5, None], 3, None, always_run=[0]) == [1, 0.5, None]
    for rate in (0.5, None, 0):
        with pytest.raises(ValueError, match=rf"target_rates\[1\] is for block 'layer1.1', .* expected 1, got {rate}"):
            resolve([1, rate, 1], 3, None, always_run=[1])


def test_the_papers_lists():
    r50 = resolve(dict(preset='paper', t=0.4), 16, 50)
    assert r50 == [1, 1, .8, 1, .4, .4, .4, 1, .4, .4, .4, .4, .4, 1, .7, 1]
    r101 = resolve(dict(preset='paper', t=0.4), 33, 101)
    assert r101 == [1] * 8 + [.4] * 25


@pytest.mark.parametrize('rates, error, message', [
    ([0.5] * 15, ValueError, 'must have 16 entries, one for each residual block .* got 15'),
    (1.2, ValueError, r'target_rates\[0\] must lie in \[0.0, 1.0\], got 1.2'),
    ([0.5] * 15 + [-0.1], ValueError, r'target_rates\[15\]'),
    ([0.5] * 15 + ['x'], TypeError, r'target_rates\[15\] must be a number'),
    ('paper', TypeError, "got 'paper'"),
    (dict(preset='mine', t=0.5), ValueError, "preset='paper'"),
    (dict(preset='paper'), ValueError, "preset='paper', t="),
])
def test_errors_say_what_was_expected_and_what_came(rates, error, message):
    with pytest.raises(error, match=message):
        resolve(rates, 16, 50)


def test_the_preset_names_the_depths_it_has():
    with pytest.raises(ValueError, match=r'depths \[50, 101\], got depth 18'):
        resolve(dict(preset='paper', t=0.5), 8, 18)
