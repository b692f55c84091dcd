"""get_macs.py: its table, its pictures, and what it refuses."""
import json

import pytest
import torch

TOOL = 'analysis_tools/get_macs.py'
pytestmark = pytest.mark.e2e


def test_the_table_needs_no_data(run_tool, configs):
    usual_width = ['model.backbone.base_channels=64', 'model.neck.in_channels=[64,128,256,512]']
    out = run_tool(TOOL, configs['aig'], '--num-images', 0, '--shape', 224, '--cfg-options', *usual_width)
    assert 'AIGResNet: 11.19 M parameters' in out and 'the whole model has 12.32 M' in out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith('  ')}
    assert float(rows['conv1'][0]) == pytest.approx(0.1180, abs=1e-4)
    assert float(rows['sum'][0]) == pytest.approx(1.8136, abs=1e-4)
    assert sum(float(rows[f'layer{i}'][2]) for i in range(1, 5)) + float(rows['conv1'][2]) == pytest.approx(
        float(rows['sum'][2]), abs=1e-5)


@pytest.mark.parametrize('name', ['aig', 'dg'])
def test_images_of_a_checkpoint(run_tool, configs, checkpoints, data_options, tmp_path, name):
    out = run_tool(TOOL, configs[name], checkpoints[name], '--num-images', 4, '--out', tmp_path / 'h.png',
                   '--dump', tmp_path / 'd.json', *data_options)
    assert 'weights matched, 0 of another shape, 0 missing, 0 not in this model' in out
    assert 'GMACs an image in the backbone over 4 images' in out and 'fresh weights' not in out
    assert (tmp_path / 'h.png').read_bytes().startswith(b'\x89PNG')
    images = json.loads((tmp_path / 'd.json').read_text())['images']
    assert len(images) == 4 and all(image['macs'] <= image['dense_macs'] for image in images)
    assert [image['image'] for image in images] == [1, 2, 3, 4]


def test_without_a_checkpoint_it_says_so(run_tool, configs, data_options, tmp_path):
    out = run_tool(TOOL, configs['aig'], '--num-images', 2, '--out', tmp_path / 'h.png', *data_options)
    assert 'These are the decisions of fresh weights' in out
    # Each gate with its open rate, target and spread: fresh gates are constant.
    lines = [line.split() for line in out.splitlines() if line.startswith('  layer')]
    rows = {name: values for name, *values in lines if '.' in name}
    assert rows['layer3.1'][1] == '0.400' and float(rows['layer3.1'][2]) < 0.01 and len(rows) == 4
    assert 'The decisions of layer1.1, layer2.1' in out and 'hardly depend on the image' in out


@pytest.mark.parametrize('arguments, message', [
    (['--shape', '16', '64', '--num-images', '0'], '--shape expects at least 32 x 32 pixels'),
    (['--num-images', '-1'], 'expects a number of images, got -1'),
    (['--dump', 'd.pkl'], 'ends in .json'),
    (['nowhere.pth', '--num-images', '0'], 'expected a checkpoint, found nothing at nowhere.pth'),
    (['--cfg-options', 'val_dataloader.dataset.data_root=nowhere'],
     'found nothing at nowhere(.|\n)*give --num-images 0'),
    (['--num-images', '0', '--cfg-options', 'model.backbone.type=ResNet', 'model.backbone.target_rates=None'],
     'unexpected|dynamic backbone'),
])
def test_bad_input(run_tool, configs, arguments, message):
    with pytest.raises((SystemExit, TypeError), match=message):
        run_tool(TOOL, configs['aig'], *arguments)


def test_no_images(run_tool, configs, data_options):
    with pytest.raises(SystemExit, match='val_dataloader.dataset: expected images'):
        run_tool(TOOL, configs['aig'], *data_options, 'val_dataloader.dataset.indices=0')


@pytest.mark.parametrize('change, message', [
    (lambda weights: weights.pop('backbone.layer1.1.gate.fc1.weight'), '1 missing'),
    (lambda weights: weights.update({'backbone.layer1.2.conv1.weight': torch.zeros(1)}), '1 not in this model'),
    (lambda weights: weights.update({'backbone.conv1.weight': torch.zeros(1)}),
     r'1 of another shape(.|\n)*expected \(32, 3, 7, 7\), got \(1,\)'),
])
def test_a_checkpoint_of_another_model(run_tool, configs, checkpoints, tmp_path, change, message):
    checkpoint = torch.load(checkpoints['aig'])
    change(checkpoint['state_dict'])
    torch.save(checkpoint, tmp_path / 'other.pth')
    with pytest.raises(SystemExit, match=message):
        run_tool(TOOL, configs['aig'], tmp_path / 'other.pth', '--num-images', 0)


def test_not_a_checkpoint(run_tool, configs, tmp_path):
    torch.save(['no', 'weights'], tmp_path / 'list.pth')
    with pytest.raises(SystemExit, match='expected a checkpoint, a dict, found a list'):
        run_tool(TOOL, configs['aig'], tmp_path / 'list.pth', '--num-images', 0)
