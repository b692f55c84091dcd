"""What is published: the weights and nothing of the run, by a name that tells a changed file."""
import hashlib
import os
import re
from pathlib import Path

import pytest
import torch
from mmdyn.checkpoints import read_checkpoint
from mmengine.logging import HistoryBuffer
from torch import nn

TOOL = 'misc/publish_model.py'


@pytest.fixture
def checkpoint(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    state = model.state_dict()
    state['tied'] = state['0.weight'].t()  # a view of another weight
    torch.save(dict(state_dict=state, optimizer=dict(state={0: torch.zeros(1000)}), param_schedulers=[],
                    message_hub=dict(log_scalars=dict(loss=HistoryBuffer([1.0], [1]))),
                    meta=dict(epoch=3, cfg="work_dir = 'secret'", experiment_name='secret',
                              dataset_meta=dict(classes=('cat', 'dog')))), tmp_path / 'epoch_3.pth')
    return tmp_path / 'epoch_3.pth', state


@pytest.mark.parametrize('extension', ['safetensors', 'pth'])
def test_only_the_weights_are_published(checkpoint, extension, run_tool, tmp_path):
    if extension == 'safetensors':
        pytest.importorskip('safetensors')
    source, state = checkpoint
    out = run_tool(TOOL, source, tmp_path / 'published' / 'net', '--format', extension)
    assert 'left out: message_hub, optimizer, param_schedulers' in out
    written, = (tmp_path / 'published').iterdir()
    digest = hashlib.sha256(written.read_bytes()).hexdigest()
    assert written.name == f'net-{digest[:8]}.{extension}' and f'sha256: {digest}' in out
    published = read_checkpoint(written)
    assert set(published) == {'meta', 'state_dict'}
    assert published['meta'].keys() == {'epoch', 'dataset_meta', 'mmdyn_version'}
    assert list(published['meta']['dataset_meta']['classes']) == ['cat', 'dog']
    assert b'secret' not in written.read_bytes()
    assert published['state_dict'].keys() == state.keys()
    assert all(torch.equal(published['state_dict'][key], value) for key, value in state.items())


def test_the_name_does_not_change_with_the_run_but_with_the_weights(checkpoint, run_tool, tmp_path):
    pytest.importorskip('safetensors')
    names = []
    for change in (0, 0, 1):
        content = torch.load(checkpoint[0], weights_only=False)
        content['state_dict']['0.weight'] += change
        torch.save(content, tmp_path / 'changed.pth')
        out = run_tool(TOOL, tmp_path / 'changed.pth', tmp_path / 'net')
        names.append(Path(re.match(r'\S+', out)[0].rstrip(':')).name)
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize('extension', ['safetensors', 'pth'])
@pytest.mark.parametrize('umask, mode', [(0o022, 0o644), (0o007, 0o660)])
def test_the_file_has_the_permissions_that_the_umask_gives(checkpoint, run_tool, tmp_path, extension, umask, mode):
    if extension == 'safetensors':
        pytest.importorskip('safetensors')
    before = os.umask(umask)
    try:
        run_tool(TOOL, checkpoint[0], tmp_path / 'published' / 'net', '--format', extension)
    finally:
        os.umask(before)
    written, = (tmp_path / 'published').iterdir()
    assert written.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize('arguments, message', [
    (['nowhere.pth', 'net'], 'found nothing at nowhere.pth'),
    (['{source}', 'net.pth'], 'DST expects a name without extension'),
])
def test_bad_input(checkpoint, arguments, message, run_tool):
    with pytest.raises(SystemExit, match=message):
        run_tool(TOOL, *(argument.format(source=checkpoint[0]) for argument in arguments))
