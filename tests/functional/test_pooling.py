"""Pooling over the valid part of padded pictures."""
import pytest
import torch

from mmdyn.functional.pooling import cropped_pool, pool_beside, pooling_weights, valid_sizes, weighted_pool


def pool(features, sizes, input_size):
    pooled = weighted_pool(features, pooling_weights(sizes, input_size, features.shape[2:]))
    cells = [[-(-size * length // padded) for size, length, padded in zip(own, features.shape[2:], input_size)]
             for own in sizes.tolist()]
    torch.testing.assert_close(pooled, cropped_pool(features, cells), rtol=1e-5, atol=1e-6)
    return pooled


def test_valid_sizes_end_at_the_last_row_and_column_with_content():
    images = torch.zeros(4, 3, 8, 10)
    images[0] = 1
    images[1, 2, 4, 6] = -0.5  # a single pixel, in one channel
    images[2, :, :3, :7] = 2
    images[2, :, 1, 2] = 0  # zeros inside the picture are not padding
    sizes = valid_sizes(images)
    assert sizes.tolist() == [[8, 10], [5, 7], [3, 7], [8, 10]]


def test_unpadded_pictures_pool_to_the_mean():
    features = torch.randn(3, 5, 4, 6, dtype=torch.float64)
    sizes = torch.tensor([[32, 48]] * 3)
    pooled = pool(features, sizes, (32, 48))
    torch.testing.assert_close(pooled, features.mean(dim=(2, 3)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_padding_does_not_change_what_is_pooled(memory_format):
    features = torch.randn(2, 5, 4, 6).to(memory_format=memory_format)
    sizes = torch.tensor([[17, 48], [32, 9]])  # 17 pixels reach into the third cell of stride 8
    pooled = pool(features, sizes, (32, 48))
    torch.testing.assert_close(pooled[0], features[0, :, :3].mean(dim=(1, 2)))
    torch.testing.assert_close(pooled[1], features[1, :, :, :2].mean(dim=(1, 2)))
    features[0, :, 3] = 1e6
    torch.testing.assert_close(pool(features, sizes, (32, 48))[0], pooled[0])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_pooled_in_float32_under_autocast(dtype):
    features = torch.rand(1, 2, 64, 64).to(dtype)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        pooled = pool(features, torch.tensor([[64, 64]]), (64, 64))
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, features.float().mean(dim=(2, 3)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_the_gradient_is_rounded_once_and_keeps_dtype_and_memory_format(dtype, memory_format):
    """A large map's weights are so small that float16 holds them with a few bits only."""
    features = torch.zeros(2, 3, 200, 320).to(dtype, memory_format=memory_format).requires_grad_()
    weights = pooling_weights(torch.tensor([[200, 320], [150, 301]]), (200, 320), (200, 320))
    gradient = 1000 * torch.randn(2, 3, dtype=torch.promote_types(dtype, torch.float32))
    weighted_pool(features, weights).backward(gradient)
    exact = gradient[:, :, None, None] * weights.view(2, 1, 200, 320).to(gradient.dtype)
    assert torch.equal(features.grad, exact.to(dtype))
    assert features.grad.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize('private', [False, True])
@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_features_read_on_beside_their_average_have_the_gradient_of_both(dtype, private):
    features = torch.randn(2, 3, 4, 5).to(dtype)
    weights = pooling_weights(torch.tensor([[4, 5], [3, 2]]), (4, 5), (4, 5), torch.promote_types(dtype, torch.float32))
    of_features, of_average = torch.randn(2, 3, 4, 5).to(dtype), torch.randn(2, 3).to(weights.dtype)
    leaf = features.clone().requires_grad_()
    beside, average = pool_beside(leaf, weights, private=private)
    assert beside.data_ptr() == leaf.data_ptr() and torch.equal(average, weighted_pool(features, weights))
    given = of_features.clone()
    torch.autograd.backward([beside, average], [given, of_average])
    both = of_features.to(weights.dtype) + of_average[:, :, None, None] * weights.view(2, 1, 4, 5)
    torch.testing.assert_close(leaf.grad, both.to(dtype), rtol=0, atol=0 if dtype == torch.bfloat16 else 1e-15)
    assert torch.equal(given, of_features) is not private
    unread, average = pool_beside(features.requires_grad_(), weights, private=private)
    assert torch.autograd.grad(unread.sum(), features)[0].eq(1).all()  # of what is not asked for, nothing is added


@pytest.mark.parametrize('length, cells', [(64, 16), (90, 12), (48, 48), (50, 7), (7, 1)])
def test_weights_of_every_size_are_those_of_its_cells(length, cells):
    sizes = torch.arange(1, length + 1)
    weights = pooling_weights(torch.stack([sizes, sizes], dim=1), (length, length), (cells, cells)).view(-1, cells, cells)
    for size, own in zip(sizes.tolist(), weights):
        valid = -(-size * cells // length)
        wanted = torch.zeros(cells, cells)
        wanted[:valid, :valid] = torch.tensor(1 / valid) * torch.tensor(1 / valid)
        assert torch.equal(own, wanted), size
