"""benchmark.py: what it measures, of whom, and what it refuses."""
import json

import pytest

from mmdyn.analysis.backbone_pair import BackbonePair

TOOL = 'analysis_tools/benchmark.py'
AIG = dict(type='mmdyn.AIGResNet', depth=18, base_channels=8, target_rates=0.5, policy='argmax')


def test_table_and_json(run_tool, tmp_path):
    out = run_tool(TOOL, str(AIG), '--size', 64, '--batch', 1, 2, '--runs', 2, '--open-rate', 0, 1,
                   '--json', tmp_path / 'b.json')
    rows = json.loads((tmp_path / 'b.json').read_text())
    whats = ['training step', 'training step, skipped, open rate 0', 'training step, skipped, open rate 1',
             'saved activations', 'inference', 'inference, open rate 0', 'inference, open rate 1']
    assert [(row['what'], row['batch']) for row in rows] == [(what, n) for n in (1, 2) for what in whats]
    assert all(f'| {what} | ' in out for what in whats)
    saved, _, closed, opened = rows[3:7]
    pair = BackbonePair(AIG)
    parts = pair.account.parts((64, 64))
    static = pair.static_macs((64, 64))
    assert closed['mac_ratio'] == pytest.approx(sum(p.macs for p in parts if not p.conditional) / static)
    assert opened['mac_ratio'] == pytest.approx(sum(p.macs for p in parts) / static)
    assert opened['efficiency'] == opened['mac_ratio'] / opened['ratio']
    assert saved['what'] == 'saved activations' and saved['ratio'] > 0
    assert saved['dynamic'] / rows[10]['dynamic'] == pytest.approx(0.5, rel=0.01)


def test_a_whole_detector(run_tool, configs):
    out = run_tool(TOOL, configs['dg'], '--size', 64, '--runs', 1, '--whole-detector', '--open-rate', 0.5)
    measured = [line.split('|')[1].strip() for line in out.splitlines()[4:] if '|' in line]
    assert measured == ['training step', 'saved activations', 'inference', 'inference, open rate 0.5']


def test_a_whole_detector_on_its_training_images(run_tool, configs, data_options, tmp_path):
    run_tool(TOOL, configs['aig'], '--size', 96, '--batch', 2, '--runs', 1, '--measure', 'train', '--whole-detector',
             '--training-images', '--open-rate', 0.5, *data_options, 'model.backbone.norm_eval=True',
             '--json', tmp_path / 'b.json')
    masked, skipped = json.loads((tmp_path / 'b.json').read_text())
    assert masked['over_masked'] is None
    assert skipped['static'] == masked['static'] and skipped['over_masked'] == skipped['dynamic'] / masked['dynamic']


@pytest.mark.parametrize('gates', [True, False])
def test_training_that_skips_is_measured_where_nodes_have_gates(run_tool, gates):
    backbone = dict(type='mmdyn.DGResNet', depth=18, base_channels=8, node_gates=gates)
    out = run_tool(TOOL, str(backbone), '--size', 64, '--runs', 1, '--measure', 'train', '--open-rate', 0.5)
    measured = [line.split('|')[1].strip() for line in out.splitlines()[4:] if '|' in line]
    assert measured == ['training step'] + ['training step, skipped, open rate 0.5'] * gates


def test_forced_decisions(run_tool):
    out = run_tool(TOOL, str(AIG), '--size', 64, '--runs', 1, '--measure', 'infer', '--decisions', 'closed')
    assert float(out.splitlines()[-1].split('|')[7]) < 0.4


@pytest.mark.parametrize('arguments, message', [
    (["dict(type='mmdet.ResNet', depth=18)"], "expected a dynamic backbone, .* got type='mmdet.ResNet'"),
    (["dict(type='mmdyn.Nothing')"], 'model.backbone.type: mmdyn has no Nothing; expected one of AIGMobileNetV2'),
    (['dict(type='], 'expected a backbone such as "dict'),
    (['nowhere.py'], 'found nothing at nowhere.py'),
    ([str(AIG), '--size', '16'], 'at least 32 x 32 pixels, the stride of this backbone, got 16 x 16'),
    ([str(AIG), '--open-rate', '1.5'], r'numbers in \[0, 1\], got 1.5'),
    ([str(AIG), '--batch', '0'], '--batch expects at least 1, got 0'),
    ([str(AIG), '--warm-up', '0'], '--warm-up expects at least 1, got 0'),
    ([str(AIG), '--decisions', 'chain'], "--decisions: decisions must be 'open', 'closed'"),
    ([str(AIG), '--whole-detector'], 'expects a config file of a detector'),
    ([str(AIG), '--training-images'], '--training-images is for a --whole-detector'),
    ([str(AIG), '--cfg-options', 'a=1'], '--cfg-options expects a config file, got the backbone'),
    ([str(AIG), '--static', "dict(type='mmdet.ResNet', depth=34, base_channels=8)"], 'it has others'),
])
def test_bad_input(run_tool, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run_tool(TOOL, *arguments)
