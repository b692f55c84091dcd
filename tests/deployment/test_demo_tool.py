"""tools/deployment/demo_onnx.py, where there is neither torch nor mmdet."""
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / 'tools' / 'deployment' / 'demo_onnx.py'
NEEDED = ('numpy', 'cv2', 'onnxruntime')


@pytest.fixture(scope='session')
def bare_python(tmp_path_factory):
    """Runs the demo where numpy, OpenCV and onnxruntime are installed, and nothing else."""
    folder = tmp_path_factory.mktemp('site')
    for name in NEEDED:
        package = Path(pytest.importorskip(name).__file__).parent
        # With what wheels put beside a package: its shared libraries.
        for path in (package, *package.parent.glob(f'{name}.libs'), *package.parent.glob('opencv_python*.libs')):
            if not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)

    def run(*arguments):
        command = [sys.executable, '-S', *map(str, arguments)]  # -S: no site-packages
        environment = dict(os.environ, PYTHONPATH=str(folder))
        return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)

    return run


def test_that_environment_is_bare(bare_python):
    script = 'import importlib.util as u; print([bool(u.find_spec(n)) for n in {}])'
    names = ('torch', 'mmcv', 'mmengine', 'mmdet', 'mmdyn', 'onnx', *NEEDED)
    assert bare_python('-c', script.format(names)).stdout.strip() == str([False] * 6 + [True] * 3)


def test_pictures(bare_python, onnx_file, shapes, tmp_path):
    files = sorted((shapes / 'val2017').iterdir())[:2]
    process = bare_python(DEMO, onnx_file[0], *files, '--out-dir', tmp_path / 'drawn', '--score', 0.05)
    assert process.returncode == 0, process.stderr
    assert process.stdout.count('of 4 blocks that can be left out ran') == 2
    for file in files:
        drawn = cv2.imread(str(tmp_path / 'drawn' / f'{file.stem}.png'))
        assert drawn.shape == (480, 480 + 190, 3)
        assert (drawn[:, :480] != cv2.resize(cv2.imread(str(file)), None, fx=7.5, fy=7.5)).any()


def test_it_finds_what_evaluation_finds(bare_python, onnx_file, detector, shapes, tmp_path):
    """Its own pre-processing, from the metadata alone, is that of the config."""
    from mmdyn.deployment.onnx_session import OnnxSession
    from mmdyn.deployment.onnx_evaluation import fit
    from mmengine.config import Config
    from mmengine.registry import DATASETS, MODELS
    cfg, graph = Config.fromfile(detector[0]), OnnxSession(onnx_file[0])
    item = DATASETS.build(cfg.test_dataloader.dataset)[0]
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    inputs = preprocessor(dict(inputs=[item['inputs']], data_samples=[item['data_samples']]), False)['inputs']
    found = graph.run(fit(inputs, graph).numpy())
    process = bare_python(DEMO, onnx_file[0], item['data_samples'].img_path, '--out-dir', tmp_path, '--score', 0.05)
    lines = [line.split() for line in process.stdout.splitlines() if line.startswith('    ')]
    assert len(lines) == len(found['scores']) > 0
    scale = item['data_samples'].scale_factor[0]
    for line, score, label, box in zip(lines, found['scores'], found['labels'], found['boxes']):
        assert line[0] == graph.metadata['classes'][label] and abs(float(line[1]) - score) < 0.006
        assert np.abs(np.array([float(side.strip(',')) for side in line[3:]]) - box / scale).max() < 0.6


def test_bad_input(bare_python, onnx_file, shapes, tmp_path):
    from test_test_tool import strip_metadata
    strip_metadata(onnx_file[0], tmp_path / 'bare.onnx')
    (tmp_path / 'text.png').write_text('not a picture')
    picture = sorted((shapes / 'val2017').iterdir())[0]
    for arguments, message in (
        ((tmp_path / 'bare.onnx', picture), 'expected a detector that export_onnx.py has written, with boxes and meta'),
        ((tmp_path / 'no.onnx', picture), 'expected an ONNX file, found nothing at'),
        ((onnx_file[0], tmp_path / 'text.png'), 'expected a picture that OpenCV can read'),
        ((onnx_file[0], tmp_path / 'no.png'), 'expected a picture that OpenCV can read'),
    ):
        process = bare_python(DEMO, *arguments, '--out-dir', tmp_path / 'drawn')
        assert process.returncode == 1 and message in process.stderr and 'Traceback' not in process.stderr


def test_a_grey_picture(bare_python, onnx_file, tmp_path):
    cv2.imwrite(str(tmp_path / 'grey.png'), np.random.randint(0, 256, (50, 150), dtype=np.uint8))
    assert bare_python(DEMO, onnx_file[0], tmp_path / 'grey.png', '--out-dir', tmp_path / 'drawn').returncode == 0


def test_it_is_short():
    assert len(DEMO.read_text().splitlines()) < 120
