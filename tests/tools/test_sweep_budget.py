"""sweep_budget.py: a detector at many budgets, and what it refuses."""
import json

import pytest

TOOL = 'analysis_tools/sweep_budget.py'


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize('name, knob', [('aig', 'open_probability'), ('dg', 'threshold')])
def test_a_detector_and_its_controls(run_tool, configs, checkpoints, data_options, tmp_path, monkeypatch, name, knob):
    arguments = [TOOL, configs[name], checkpoints[name], '--budgets', 0.6, 1, '--controls', '--out', tmp_path,
                 *data_options]
    out = run_tool(*arguments)
    content = json.loads((tmp_path / 'sweep.json').read_text())
    assert content['knob'] == knob and [row['budget'] for row in content['settings']] == [0.6, 1]
    assert all(row['share'] <= row['budget'] for row in content['settings'])
    for row in content['settings']:
        assert f'a budget of {row["budget"]:g}: {knob} = {row["value"]:.6g} costs {row["share"]:.3f} of dense' in out
    at = {kind: [point for point in content['points'] if point['kind'] == kind] for kind in ('own', 'fixed', 'random')}
    assert [point['ratio'] <= 1 for point in at['own']] == [True, True] and len(at['own']) == 2
    # The same routes, dealt to other images of the same size.
    assert at['random'][0]['ratio'] == pytest.approx(at['own'][0]['ratio'], abs=1e-9)
    assert at['random'][0]['metrics']['compute/open_rate'] == at['own'][0]['metrics']['compute/open_rate']
    if name == 'aig':  # everything open is the same network
        closed = at['fixed'][0]['closed']
        assert len(at['fixed']) == len(at['random']) == 1 and at['own'][1]['ratio'] == 1 and closed
        assert all(at['fixed'][0]['metrics'][f'compute/open_rate/{block}'] == 0 for block in closed)
        assert min(choice['share'] for choice in content['choices']) <= content['settings'][0]['share']
    assert "The network's own decisions, at equal compute:" in out and 'fixed decisions: coco/bbox_mAP' in out
    assert (tmp_path / 'sweep.png').read_bytes().startswith(b'\x89PNG')
    # A second run finds everything made.
    monkeypatch.setattr('mmdyn.analysis.routed_images.RoutedImages.run', None)
    monkeypatch.setattr('mmengine.runner.Runner.val', None)
    assert run_tool(*arguments).split("The network's own")[1] == out.split("The network's own")[1]


@pytest.mark.e2e
@pytest.mark.slow
def test_given_values_need_no_training_images(run_tool, configs, checkpoints, data_options, tmp_path):
    out = run_tool(TOOL, configs['aig'], checkpoints['aig'], '--values', 1, 0, '--out', tmp_path, *data_options,
                   'train_dataloader=None')
    points = json.loads((tmp_path / 'sweep.json').read_text())['points']
    assert [point['value'] for point in points] == [0, 1] and points[0]['ratio'] == 1 and points[1]['ratio'] < 0.6
    assert 'coco/bbox_mAP' in out and 'a budget' not in out


@pytest.mark.parametrize('arguments, message', [
    (['--budgets', '0.5', '1.2'], r'--budgets expects shares of the dense cost in \(0, 1\], got 1.2'),
    (['--budgets', '0'], r'in \(0, 1\], got 0'),
    (['--budgets', 'nan'], r'in \(0, 1\], got nan'),
    (['--train-images', '0'], '--train-images expects a number of at least 1, got 0'),
    (['--static', 'ResNet-20=0.04'], '2'),
    (['--others', 'ResNet-20=nan,0.5'], '2'),
    (['--seed', '-1'], r'--seed expects a number in \[0, 2\^32\), got -1'),
    (['--values', '0.5', '1.2'], r'--values: open_probability must lie in \[0.0, 1.0\], got 1.2'),
    (['--cfg-options', 'model.backbone.depth=34', 'model.backbone.target_rates=0.4'],
     r'another depth.* 0 of another shape, \d+ missing, 0 not in'),
    (['--cfg-options', 'model.backbone.depth=50', 'model.backbone.target_rates=0.4',
      'model.neck.in_channels=[256,512,1024,2048]'],
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


def test_no_training_images(run_tool, configs, checkpoints, data_options, tmp_path):
    with pytest.raises(SystemExit, match='expected train_dataloader in the config'):
        run_tool(TOOL, configs['aig'], checkpoints['aig'], '--out', tmp_path, *data_options, 'train_dataloader=None')


def test_an_absent_checkpoint(run_tool, configs):
    with pytest.raises(SystemExit, match='expected a checkpoint, found nothing at nowhere.pth'):
        run_tool(TOOL, configs['aig'], 'nowhere.pth')
