"""sweep_budget.py: a detector at many budgets, and what it refuses."""
import json

import pytest

TOOL = 'analysis_tools/sweep_budget.py'


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize('name, values, knob', [('aig', (0, 1), 'open_probability'), ('dg', (0, 1.9), 'threshold')])
def test_a_detector(run_tool, configs, checkpoints, data_options, tmp_path, name, values, knob):
    out = run_tool(TOOL, configs[name], checkpoints[name], '--values', *values, '--budget', 1.0,
                   '--out', tmp_path, *data_options)
    assert f'for a budget of 1: {knob} = 0, which costs 1.000 of dense at coco/bbox_mAP' in out
    content = json.loads((tmp_path / 'sweep.json').read_text())
    assert content['knob'] == knob and [point['value'] for point in content['points']] == list(values)
    dense, closed = content['points']
    assert dense['ratio'] == 1 and closed['ratio'] < 0.6
    assert (tmp_path / 'sweep.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize('arguments, message', [
    (['--budget', '1.2'], r'in \(0, 1\], got 1.2'),
    (['--static', 'ResNet-20=0.04'], '2'),
    (['--budget', '0'], r'in \(0, 1\], got 0'),
    (['--values', '0.5', '1.2'], r'--values: open_probability must lie in \[0.0, 1.0\], got 1.2'),
    (['--cfg-options', 'model.backbone.depth=34'], r'another depth.* 0 of another shape, \d+ missing, 0 not in'),
    (['--cfg-options', 'model.backbone.depth=50', 'model.neck.in_channels=[256,512,1024,2048]'],
     r'another depth.*[1-9]\d* of another shape'),
    (['--cfg-options', 'model.backbone.policy=expected'], "--cfg-options model.backbone.policy=argmax"),
    (['--cfg-options', 'val_dataloader.dataset.data_root=nowhere'], 'found nothing at nowhere'),
])
def test_bad_input(run_tool, configs, checkpoints, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run_tool(TOOL, configs['aig'], checkpoints['aig'], *arguments)


def test_no_images(run_tool, configs, checkpoints, data_options, tmp_path):
    with pytest.raises(SystemExit, match='val_dataloader.dataset: expected images'):
        run_tool(TOOL, configs['aig'], checkpoints['aig'], '--out', tmp_path, *data_options,
                 'val_dataloader.dataset.indices=0')


def test_an_absent_checkpoint(run_tool, configs):
    with pytest.raises(SystemExit, match='expected a checkpoint, found nothing at nowhere.pth'):
        run_tool(TOOL, configs['aig'], 'nowhere.pth')
