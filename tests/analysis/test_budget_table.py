"""Curves, table and verdict of points that are made up."""
import pytest

from mmdyn.analysis.budget_table import Row, advantages, curve, judge, table, verdict


def point(gmacs: float, accuracy: float, **fields) -> dict:
    return dict(ratio=gmacs / 4, gmacs=gmacs, metrics=dict(AP=accuracy), **fields)


OPEN = Row(0.0, 1.0, point(4, 0.8))
ROWS = [Row(0.7, 0.5, point(2, 0.5), fixed=point(1.5, 0.4, closed=['layer1.0', 'layer2.0']), random=point(2, 0.3)),
        Row(0.6, 0.75, point(3, 0.75), fixed=point(3, 0.7, closed=[]), random=point(3, 0.8)), OPEN]


def test_controls_end_in_the_network_with_everything_open():
    assert curve(ROWS, 'own', 'AP') == [(2, 0.5), (3, 0.75), (4, 0.8)]
    assert curve(ROWS, 'fixed', 'AP') == [(1.5, 0.4), (3, 0.7), (4, 0.8)]


def test_compared_at_equal_compute():
    """At 2 GMACs the fixed choice has 0.5, a third of the way from 0.4 to 0.7."""
    assert advantages(ROWS, 'fixed', 'AP') == pytest.approx([0, 0.05])
    assert advantages(ROWS, 'random', 'AP') == pytest.approx([0.2, -0.05])
    # Budgets that are met by one value count once.
    assert advantages([ROWS[0], *ROWS], 'fixed', 'AP') == pytest.approx([0, 0.05])


@pytest.mark.parametrize('gains, words', [
    ((0.02, 0.03, 0.01), 'they are worth more than'),
    ((-0.02, -0.03, -0.01), 'they are worth less than'),
    ((0.02, -0.01, 0.01), 'they are worth no more than'),
    ((0.0, 0.0), 'they are worth no more than'),
    ((0.5, ), 'one budget does not tell what they are worth beside'),
])
def test_what_advantages_say(gains, words):
    assert judge(gains) == words


def test_the_verdict():
    lines = verdict(ROWS, 'AP').splitlines()[1:]
    words = '  they are worth no more than {} decisions: AP {} on average ({} to {}), better at 1 of 2 budgets'
    assert lines == ["The network's own decisions, at equal compute:",
                     words.format('fixed', '+0.0250', '+0.0000', '+0.0500'),
                     words.format('random', '+0.0750', '-0.0500', '+0.2000')]
    assert 'nothing was decided' in verdict([OPEN], 'AP')


def test_the_table():
    lines = table(ROWS, 'open_probability', 'AP').splitlines()[1:]
    assert lines[0].split() == ['budget', 'open_probability', 'decisions', 'ratio', 'GMACs', 'AP']
    assert lines[1].split() == ['0.500', '0.7', 'own', '0.500', '2.0000', '0.5000']
    assert lines[2].split() == ['fixed', '0.375', '1.5000', '0.4000', 'without', 'layer1.0,', 'layer2.0']
    assert lines[3].split() == ['random', '0.500', '2.0000', '0.3000']
    assert lines[-1].split() == ['1.000', '0', 'own', '1.000', '4.0000', '0.8000'] and len(lines) == 8
    assert table([Row(0.3, None, point(2, 0.5))], 'threshold', 'AP').splitlines()[-1].split()[0] == '-'
