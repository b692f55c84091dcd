"""robustness.py: a detector on corrupted images, and what it refuses."""
import pytest

TOOL = 'analysis_tools/robustness.py'


@pytest.mark.slow
@pytest.mark.e2e
def test_a_detector(run_tool, configs, checkpoints, data_options, tmp_path):
    pytest.importorskip('imagecorruptions')
    options = [option.replace('val_', 'test_').replace('test2017', 'val2017') for option in data_options]
    options = [option.replace('instances_test', 'instances_val') for option in options]
    out = run_tool(TOOL, configs['aig'], checkpoints['aig'], '--corruptions', 'jpeg_compression', '--severities', 5,
                   '--out-dir', tmp_path, *options)
    assert '| dynamic | none | 0 | ' in out and '| dynamic | jpeg_compression | 5 | ' in out
    assert (tmp_path / 'robustness.png').is_file() and (tmp_path / 'robustness.md').is_file()


@pytest.mark.parametrize('arguments, message', [
    (['--epsilons', '0'], '--epsilons expects numbers above 0'),
    (['--severities', '6'], '--severities expects numbers from 1 to 5'),
    (['--jpeg', '101'], '--jpeg expects a quality'),
    (['--steps', '0'], '--steps expects a number of at least 1, got 0'),
    (['--num-images', '3'], '--num-images is for classifiers'),
])
def test_bad_input(run_tool, configs, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run_tool(TOOL, configs['aig'], 'nowhere.pth', *arguments)


def test_an_unknown_corruption(run_tool, configs):
    pytest.importorskip('imagecorruptions')
    with pytest.raises(SystemExit, match='unknown rain; there are gaussian_noise'):
        run_tool(TOOL, configs['aig'], 'nowhere.pth', '--corruptions', 'rain')
