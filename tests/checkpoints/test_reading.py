"""Reading checkpoints: what mmengine writes comes back, and what carries code does not run."""
import os
import pickle
import re
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from mmdyn.checkpoints import CheckpointError, LogHistory, read_checkpoint, read_state_dict
from mmdyn.checkpoints.old_torch import load_restricted
from mmdyn.checkpoints.reading import _allowed
from mmengine.logging import HistoryBuffer

CASES = [False, True]  # the legacy format of torch.save, and its zip archives


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path, function=os.mkdir):
        self.call = function, (str(path), )

    def __reduce__(self):
        return self.call


def mmengine_checkpoint():
    """All kinds of values that a Runner puts into its checkpoints."""
    history = HistoryBuffer([1.5, 2.5], [1, 1])
    history.update(3.5)
    return dict(
        meta=dict(epoch=1, cfg='text', dtype=torch.bfloat16, device=torch.device('cpu'), numbers={1, 2j},
                  raw=bytearray(b'a'), dataset_meta=dict(classes=('a', 'b'), palette=[(1, 2, 3)])),
        state_dict=OrderedDict(weight=torch.arange(6.).view(2, 3), count=torch.tensor(3)),
        message_hub=dict(log_scalars=OrderedDict(loss=history),
                         runtime_info=OrderedDict(eta=np.float64(2.0), step=np.int64(3), flag=np.bool_(True)),
                         resumed_keys=OrderedDict(loss=True)),
        optimizer=dict(state={0: dict(momentum_buffer=torch.ones(2))}, param_groups=[dict(lr=0.1, params=[0])]),
        param_schedulers=[dict(last_step=1, base_values=[0.1], milestones=Counter([8, 11]))])


@pytest.mark.parametrize('zipped', CASES)
def test_what_a_runner_writes_comes_back(tmp_path, zipped):
    path = tmp_path / 'epoch_1.pth'
    written = mmengine_checkpoint()
    torch.save(written, path, _use_new_zipfile_serialization=zipped)
    for read in (read_checkpoint(path), load_restricted(str(path), _allowed())):
        history = read['message_hub']['log_scalars'].pop('loss')
        assert type(history) is LogHistory and history.max_length == 1000000
        assert history._log_history.tolist() == [1.5, 2.5, 3.5]
        assert read['message_hub']['runtime_info'] == dict(eta=2.0, step=3, flag=True)
        assert torch.equal(read['state_dict']['weight'], written['state_dict']['weight'])
        assert read['meta'] == written['meta'] and read['param_schedulers'] == written['param_schedulers']
        assert torch.equal(read['optimizer']['state'][0]['momentum_buffer'], torch.ones(2))


@pytest.mark.parametrize('zipped', CASES)
@pytest.mark.parametrize('place', ['top', 'meta', 'state_dict', 'log_scalars'])
def test_code_is_refused_and_does_not_run(tmp_path, zipped, place):
    canary, path = tmp_path / 'canary', tmp_path / 'epoch_1.pth'
    checkpoint = mmengine_checkpoint()
    target = dict(checkpoint, log_scalars=checkpoint['message_hub']['log_scalars']).get(place, checkpoint)
    target['evil'] = Canary(canary)
    torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r'carries (posix|nt)\.mkdir.*refused and not run'):
        read_checkpoint(path)
    with pytest.raises(pickle.UnpicklingError, match=r'mkdir'):
        load_restricted(str(path), _allowed())
    assert not canary.exists()
    torch.load(path, weights_only=False)
    assert canary.exists()  # it would have run


def test_getattr_reaches_nothing_but_the_names_of_statistics(tmp_path):
    class Reach:
        def __reduce__(self):
            return getattr, (HistoryBuffer, '__init__')

    torch.save(dict(evil=Reach()), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='carries builtins.getattr'):
        read_checkpoint(tmp_path / 'a.pth')


def test_a_plain_pickle_is_refused(tmp_path):
    (tmp_path / 'a.pth').write_bytes(pickle.dumps(Canary(tmp_path / 'canary')))
    with pytest.raises(CheckpointError, match='a.pth'):
        read_checkpoint(tmp_path / 'a.pth')
    assert not (tmp_path / 'canary').exists()


@pytest.mark.parametrize('zipped', CASES)
@pytest.mark.parametrize('share', [0.02, 0.5, 0.98])
def test_a_file_that_is_cut_off_is_refused(tmp_path, zipped, share):
    path = tmp_path / 'a.pth'
    torch.save(dict(state_dict=dict(weight=torch.randn(1000))), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[:int(share * len(content))])
    with pytest.raises(CheckpointError, match='a.pth is corrupted, cut off or not a checkpoint'):
        read_checkpoint(path)


@pytest.mark.parametrize('content', [bytes(100), os.urandom(1000), b'PK\x03\x04' + bytes(60)])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / 'a.pth').write_bytes(content)
    with pytest.raises(CheckpointError, match='a.pth is corrupted, cut off or not a checkpoint'):
        read_checkpoint(tmp_path / 'a.pth')


@pytest.mark.parametrize('content, beginning', [
    ('<html>404</html>', '<html>404</html>'), ('# mmdyn\n\nDynamic backbones', '# mmdyn Dynamic backbones'),
    ('größe ' * 400, 'größe größe größe größe größe größe größ')])
def test_text_is_called_so(tmp_path, content, beginning):
    (tmp_path / 'a.pth').write_text(content, encoding='utf-8')
    with pytest.raises(CheckpointError, match=f"found text in .*a.pth: it begins '{re.escape(beginning)}'"):
        read_checkpoint(tmp_path / 'a.pth')


def test_nobody_is_told_to_switch_the_check_off(tmp_path):
    (tmp_path / 'a.pth').write_bytes(bytes(100))
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / 'a.pth')
    assert 'weights_only' not in str(caught.value)


def test_other_bad_files_say_what_was_expected(tmp_path):
    with pytest.raises(CheckpointError, match='found a folder at'):
        read_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match='found nothing at'):
        read_checkpoint(tmp_path / 'none.pth')
    (tmp_path / 'empty.pth').touch()
    with pytest.raises(CheckpointError, match='found an empty file at'):
        read_checkpoint(tmp_path / 'empty.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(CheckpointError, match='expected a checkpoint, a dict, found a list'):
        read_checkpoint(tmp_path / 'list.pth')
    torch.save(dict(state_dict=dict(weight='text')), tmp_path / 'text.pth')
    with pytest.raises(CheckpointError, match="found 'weight': str"):
        read_state_dict(tmp_path / 'text.pth')


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip('safetensors.torch')
    path = tmp_path / 'a.safetensors'
    safetensors.save_file({'module.weight': torch.arange(3.)}, path, metadata=dict(origin='a test'))
    assert read_checkpoint(path)['meta'] == dict(origin='a test')
    assert read_state_dict(path)['weight'].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match='a.safetensors is corrupted or cut off'):
        read_checkpoint(path)
