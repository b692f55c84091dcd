"""The routes that images took: which blocks ran for which classes, what that cost, and what it tells."""
from pathlib import Path
from typing import Optional, Sequence

from ..engine import InputError, check_output_folder
from .html_report import write_report
from .route_dump import RouteDump, order_classes, read_dump
from .route_sections import Group, make_sections


def read_group(text: str, dump: RouteDump) -> Group:
    """Name and class indices of ``NAME=CLASS,CLASS``.

    Raises:
        InputError: If it is not of this form, or a class does not exist or has no images.
    """
    name, equals, classes = text.partition('=')
    if not (name and equals and classes):
        raise InputError(f'--groups expects NAME=CLASS,CLASS, got {text}')
    unknown = set(classes.split(',')) - set(dump.classes)
    if unknown:
        raise InputError(f'--groups: no class {", ".join(sorted(unknown))}; there are {", ".join(sorted(dump.classes))}')
    indices = [dump.classes.index(own) for own in classes.split(',')]
    empty = [dump.classes[c] for c in indices if not dump.held[:, c].any()]
    if empty:
        raise InputError(f'--groups: no images of {", ".join(empty)} in the dump')
    return name, indices


def read_groups(texts: Optional[Sequence[str]], dump: RouteDump) -> Optional[tuple[Group, Group]]:
    if texts is None:
        return None
    if dump.held is None:
        raise InputError('--groups expects a dump with labels; this one was made without ground truth')
    first, second = (read_group(text, dump) for text in texts)
    shared = set(first[1]) & set(second[1])
    if shared:
        raise InputError(f'--groups expects groups that share no class, both have {dump.classes[shared.pop()]}')
    held = [dump.held[:, own].any(axis=1) for _, own in (first, second)]
    if not (held[0] & ~held[1]).any() or not (held[1] & ~held[0]).any():
        raise InputError('--groups: each group needs images that hold no class of the other, one has none')
    return first, second


def report_routes(dump: str, *, out_dir: Optional[Path], groups: Optional[Sequence[str]], permutations: int, clusters: int,
                  seed: int, images: int) -> str:
    """Writes the report of a dump; the options are those of tools/analysis_tools/routes.py.

    Returns:
        What the report says, and where it is.

    Raises:
        InputError: If an option or the dump cannot be used.
    """
    for name, value in (('permutations', permutations), ('clusters', clusters), ('images', images)):
        if value < 1:
            raise InputError(f'--{name} expects a number of at least 1, got {value}')
    routes = order_classes(read_dump(dump))
    compared = read_groups(groups, routes)
    path = Path(dump)
    folder = out_dir or path.with_name(f'{path.stem}_routes')
    check_output_folder(str(folder))
    sections = make_sections(routes, compared, permutations=permutations, clusters=clusters, seed=seed,
                             images=images)
    report = write_report(folder, f'Routes of {routes.backbone}: {path.name}', sections)
    return '\n'.join([*(f'{section.title}: {section.text}' for section in sections), f'report: {report}'])
