"""Names of the pictures."""
from pathlib import Path

from mmdyn.analysis import image_graphs


def test_equal_names_are_numbered():
    names = image_graphs.target_names(['x/a.jpg', 'y/a.png', 'b.jpg', 'z/a.jpg'], Path('out'))
    assert [path.name for path in names] == ['a.png', 'a_1.png', 'b.png', 'a_2.png']
