"""A function runs on the open images only, without needless copies."""
import pytest
import torch

from mmdyn.layers import conditional
from mmdyn.layers.conditional import gather, portions, run_on_open


@pytest.mark.parametrize('is_open', [[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 0, 0]])
def test_runs_on_the_open_images_only(is_open):
    seen = []

    def function(images):
        seen.append(images)
        return images * 2

    images = torch.randn(3, 2, 4, 4)
    index = torch.tensor(is_open).nonzero().flatten()
    result = run_on_open(function, images, index)
    if all(is_open):
        assert seen[0] is images
    if any(is_open):
        assert torch.equal(seen[0], images[index])
        assert torch.equal(result, images[index] * 2)
    else:
        assert result is None and not seen


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_the_images_that_run_keep_their_memory_format(memory_format):
    images = torch.randn(4, 3, 5, 6).contiguous(memory_format=memory_format)
    seen = run_on_open(lambda x: x, images, torch.tensor([0, 2, 3]))
    assert seen.is_contiguous(memory_format=memory_format)
    assert torch.equal(seen, images[[0, 2, 3]])


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('images', [[2], [1, 2], [0, 1, 2, 3], [0, 2, 3]])
def test_neighbours_are_gathered_without_a_copy(images, memory_format):
    maps = torch.randn(4, 3, 5, 6).contiguous(memory_format=memory_format)
    gathered = gather(maps, images)
    assert torch.equal(gathered, maps[images])
    assert gathered.is_contiguous(memory_format=memory_format)
    is_view = gathered.untyped_storage().data_ptr() == maps.untyped_storage().data_ptr()
    assert is_view == (images != [0, 2, 3])


def test_portions_fit_the_cache_and_leave_no_image_out(monkeypatch):
    maps = torch.empty(6, 2, 4, 4)  # 128 bytes an image
    monkeypatch.setattr(conditional, '_CACHE', 300)
    assert portions([0, 2, 3, 4, 5], maps) == [[0, 2], [3, 4], [5]]
    assert portions([], maps) == []
    monkeypatch.setattr(conditional, '_CACHE', 100)  # too small for a single one
    assert portions([1, 4], maps) == [[1], [4]]
