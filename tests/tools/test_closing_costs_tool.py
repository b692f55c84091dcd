"""closing_costs.py: a detector's training images, and what it refuses."""
import pytest

TOOL = 'analysis_tools/closing_costs.py'


def test_a_detector(run_tool, configs, checkpoints, data_options):
    out = run_tool(TOOL, configs['aig'], checkpoints['aig'], '--images', 2, '--budget', 0.9, *data_options)
    assert 'the loss of 2 training images' in out and 'a budget of 0.9 raises the loss by' in out
    assert {'layer1.1', 'layer4.1', 'all', 'the'} <= {line.split(' ')[0] for line in out.splitlines()}


@pytest.mark.parametrize('arguments, message', [
    (['--images', '1'], '--images expects at least 2, got 1'),
    (['--budget', '0'], r'--budget expects a share of the dense cost in \(0, 1\], got 0'),
    (['--budget', 'nan'], r'in \(0, 1\], got nan'),
])
def test_bad_input(run_tool, configs, checkpoints, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run_tool(TOOL, configs['aig'], checkpoints['aig'], *arguments)


def test_a_wiring_is_refused(run_tool, configs, checkpoints):
    with pytest.raises(SystemExit, match='expected a backbone with gates, this DGResNet has none'):
        run_tool(TOOL, configs['dg'], checkpoints['dg'])
