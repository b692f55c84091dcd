"""tools/deployment/test_onnx.py: what a file is worth, by the config's own data and metrics."""
import json

import pytest
import torch
from mmdyn.deployment import onnx_evaluation
from mmdyn.engine import InputError
from mmengine.config import Config

TOOL = 'deployment/test_onnx.py'


def test_it_says_what_pytorch_says(onnx_file, detector, tmp_path, run_tool):
    out = run_tool(TOOL, detector[0], onnx_file[0], '--out', tmp_path / 'onnx.json')
    assert '5 of 5 images' in out
    ours = json.loads((tmp_path / 'onnx.json').read_text())
    theirs = pytorch_metrics(detector, tmp_path)
    assert theirs['coco/bbox_mAP'] > -1 and 0 < theirs['compute/open_rate'] < 1
    for name in ours:
        if 'gmacs' not in name and 'ratio' not in name:
            assert ours[name] == pytest.approx(theirs[name], abs=1e-3), name
    # The file computes the padding too.
    assert ours['compute/dense_gmacs'] == pytest.approx(theirs['compute/dense_gmacs'] * 96**2 / 64**2, rel=1e-3)


def pytorch_metrics(detector, folder):
    """Of the checkpoint, by MMEngine's Runner, its images padded to the size of the file."""
    from mmdyn.engine import build_runner
    cfg = Config.fromfile(detector[0])
    cfg.merge_from_dict({'work_dir': str(folder), 'load_from': str(detector[1]),
                         'model.data_preprocessor.pad_size_divisor': 96, 'test_dataloader.batch_size': 1})
    cfg.test_evaluator = [cfg.test_evaluator, dict(type='mmdyn.ComputeMetric')]
    return build_runner(cfg).test()


@pytest.mark.parametrize('options, message', [
    (['test_dataloader.dataset.metainfo.classes=(a,b)'],
     r"was exported with the classes \['circle'.*config has \['a', 'b'\]"),
    (['test_dataloader.dataset.pipeline.1.scale=(200,200)'],
     r'takes images of 96 x 96, but the pipeline .* gives 200 x 200: export with --shape 200 200 \(or --dynamic\)'),
])
def test_another_config(options, message, onnx_file, detector, run_tool):
    with pytest.raises(SystemExit, match=message):
        run_tool(TOOL, detector[0], onnx_file[0], '--cfg-options', *options)


def test_other_files(onnx_file, detector, tmp_path, run_tool):
    (tmp_path / 'text.onnx').write_text('not a graph')
    for path, message in ((tmp_path / 'no.onnx', 'expected an ONNX file, found nothing at'),
                          (tmp_path, 'expected an ONNX file, found a folder at'),
                          (tmp_path / 'text.onnx', 'but onnxruntime cannot load it')):
        with pytest.raises(SystemExit, match=message):
            run_tool(TOOL, detector[0], path)
    without_metadata = tmp_path / 'bare.onnx'
    strip_metadata(onnx_file[0], without_metadata)
    with pytest.raises(SystemExit, match='expected a file that .*export_onnx.py has written, found no metadata'):
        run_tool(TOOL, detector[0], without_metadata)


def strip_metadata(source, target):
    import onnx
    model = onnx.load(str(source))
    del model.metadata_props[:]
    onnx.save(model, str(target))


def test_an_image_of_another_size(onnx_file):
    from mmdyn.deployment.onnx_session import OnnxSession
    graph = OnnxSession(onnx_file[0])
    assert onnx_evaluation.fit(torch.ones(1, 3, 40, 60), graph).shape == (1, 3, 96, 96)
    for shape, got in (((1, 3, 64, 64), '1x3x64x64'), ((1, 4, 96, 96), '1x4x96x96'), ((2, 3, 96, 96), '2x3x96x96')):
        with pytest.raises(InputError, match=f'takes images of 1x3x96x96, got {got}'):
            graph.run(torch.zeros(shape).numpy())
