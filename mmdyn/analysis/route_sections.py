"""The parts of the report on routes: each looks at a dump and says what there is to see, with a figure."""
from typing import Optional

import numpy as np
from scipy.stats import spearmanr

from . import route_figures as figures
from . import route_statistics as statistics
from .html_report import Section
from .route_dump import RouteDump

# Rows and columns that a heatmap can show; what varies most, and what has most images, stays.
MAX_UNITS, MAX_CLASSES = 60, 80
COLUMNS = 10
CHANCE_ROUNDS = 200

# Name and class indices.
Group = tuple[str, list[int]]


def cost_section(dump: RouteDump) -> Section:
    mean, dense = dump.gmacs.mean(), dump.dense_gmacs.mean()
    low, high = np.percentile(dump.gmacs, (5, 95))
    distinct = len(np.unique(dump.routes, axis=0))
    return Section('cost', 'Compute', f'{len(dump)} images cost {mean:.4g} GMACs on average ({low:.4g} to {high:.4g} from '
                   f'the 5 % to the 95 % percentile), {mean / dense:.1%} of the {dense:.4g} of the dense backbone. They '
                   f'took {distinct} different routes through {dump.blocks} blocks that may be left out'
                   + (f' and {len(dump.units) - dump.blocks} edges.' if len(dump.units) > dump.blocks else '.'),
                   figures.draw_cost(dump))


def class_sections(dump: RouteDump) -> list[Section]:
    """Heatmap and blocks by class, of the classes that have images."""
    counts = dump.held.sum(axis=0)
    shown = np.sort(np.argsort(-counts, kind='stable')[:min(MAX_CLASSES, int((counts > 0).sum()))])
    notes = []
    if (counts == 0).any():
        empty = [name for name, count in zip(dump.classes, counts) if not count]
        notes.append(f'Without images, and left out: {", ".join(empty[:10])}{" ..." if len(empty) > 10 else ""}.')
    if (counts > 0).sum() > MAX_CLASSES:
        notes.append(f'Shown are the {MAX_CLASSES} classes with most images of {(counts > 0).sum()}.')
    rates = statistics.open_rates(dump.routes, dump.held[:, shown])
    varied = np.sort(np.argsort(-np.ptp(rates, axis=0), kind='stable')[:MAX_UNITS])
    class_notes = '\n'.join(notes)
    if len(varied) < len(dump.units):
        notes.append(f'Shown are the {MAX_UNITS} of {len(dump.units)} blocks and edges that differ most by class.')
    names = [dump.classes[c] for c in shown]
    blocks = dump.routes[:, :dump.blocks].sum(axis=1)
    own = [blocks[dump.held[:, c]] for c in shown]
    means = np.array([x.mean() for x in own])
    errors = np.array([1.96 * x.std() / np.sqrt(len(x)) for x in own])
    few, many = (f'{names[i]} ({means[i]:.2f})' for i in (means.argmin(), means.argmax()))
    return [
        Section('heatmap', 'Open rates by class', '\n'.join(
            ['For which share of the images that hold a class each block was run, or each edge open.', *notes]),
            figures.draw_heatmap(rates[:, varied], dump.routes.mean(axis=0)[varied], [dump.units[u] for u in varied],
                                 names)),
        Section('blocks_per_class', 'Blocks by class',
                f'Of {dump.blocks} blocks that may be left out, {few} and {many} images run fewest and most. Bars are '
                f'95 % confidence intervals of the mean; in brackets the number of images.\n{class_notes}',
                figures.draw_blocks_per_class(means, errors, names, counts[shown], 'blocks run, mean of the images')),
    ]


def images_section(dump: RouteDump, images: int, rng: np.random.Generator) -> Section:
    title = 'Least and most expensive images'
    count = min(images, len(dump) // 2)
    if not count:
        return Section('images', title, 'Left out: there is only one image.')
    # Images of equal cost are many, and in the dump's order those of one class come together.
    order = np.lexsort((rng.random(len(dump)), dump.gmacs / dump.dense_gmacs))
    sheet, missing = figures.draw_contact_sheet(
        dump, [('least expensive for their size', order[:count]),
               ('most expensive for their size', order[::-1][:count])], min(count, COLUMNS))
    note = f'{missing} of {2 * count} image files were not found; paths are relative to where the dump was made.'
    if missing == 2 * count:
        return Section('images', title, f'Left out: {note}')
    text = 'Relative to the dense cost of an image of that size; of images that cost the same, some are chosen at random.'
    return Section('images', title, f'{text}\n{note}' if missing else text, sheet)


def cluster_section(dump: RouteDump, clusters: int, seed: int, rng: np.random.Generator) -> Section:
    assignment = statistics.cluster_routes(dump.routes, clusters, dump.gmacs / dump.dense_gmacs, seed)
    number = assignment.max() + 1
    text, shares, classes = f'K-means of the routes into {number} clusters, from cheap to expensive.', None, []
    if dump.held is not None:
        weights = statistics.class_weights(dump.held)
        bits = statistics.group_information(assignment, weights)
        chance = statistics.information_by_chance(
            lambda dealt: statistics.group_information(assignment, dealt), weights, CHANCE_ROUNDS, rng).mean()
        text += (f'\nKnowing the cluster of an image gives {bits:.3f} of the {statistics.entropy(weights):.3f} bits of '
                 f'information that its class holds (with classes dealt out at random: {chance:.3f}).')
        most = np.argsort(-weights.sum(axis=0), kind='stable')[:min(40, int(dump.held.any(axis=0).sum()))]
        present = np.sort(most)  # in the order of all charts
        shares = np.array([weights[assignment == k][:, present].sum(axis=0) for k in range(number)])
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-9)
        classes = [dump.classes[c] for c in present]
    return Section('clusters', 'Clusters of routes', text, figures.draw_clusters(
        dump.routes, assignment, dump.units, dump.gmacs, shares, classes))


def information_section(dump: RouteDump, rng: np.random.Generator) -> Section:
    assert dump.held is not None  # there is ground truth
    weights = statistics.class_weights(dump.held)
    bits = statistics.unit_information(dump.routes, weights)
    chance = np.percentile(statistics.information_by_chance(
        lambda dealt: statistics.unit_information(dump.routes, dealt), weights, CHANCE_ROUNDS, rng), 95, axis=0)
    best = int(bits.argmax())
    text = (f"How many bits each block or edge tells of an image's class, of {statistics.entropy(weights):.3f}. "
            f'{dump.units[best]} tells most, {bits[best]:.3f}; {int((bits > chance).sum())} of {len(bits)} tell more than '
            '95 % of random classes would let them. An image with several classes counts in equal shares for each.')
    return Section('information', 'Mutual information between route and class', text,
                   figures.draw_information(bits, chance, dump.units))


def objects_section(dump: RouteDump) -> Section:
    title = 'Compute against objects'
    if dump.objects is None or dump.areas is None:
        return Section('objects', title, 'Left out: the dump holds no boxes, as of a classifier or a data set without '
                       'ground truth.')
    ratio, held = dump.gmacs / dump.dense_gmacs, ~np.isnan(dump.areas)
    sentences = [
        _correlation('the number of objects', dump.objects, ratio), _correlation(
            "the objects' mean area", dump.areas[held], ratio[held])]
    return Section('objects', title, ' '.join(sentences), figures.draw_objects(dump))


def _correlation(what: str, values: np.ndarray, ratio: np.ndarray) -> str:
    if len(values) < 3 or np.ptp(values) == 0 or np.ptp(ratio) == 0:
        return f'No rank correlation with {what}: one of them does not vary.'
    rho, p = spearmanr(values, ratio)
    return f'Rank correlation of compute with {what}: {rho:+.3f} (p = {p:.2g}).'


def groups_section(dump: RouteDump, groups: tuple[Group, Group], permutations: int,
                   rng: np.random.Generator) -> Section:
    assert dump.held is not None  # the groups have images
    (first, own), (second, other) = groups
    test = statistics.group_test(dump.routes, dump.held, (own, other), permutations, rng)
    held = [dump.held[:, classes].any(axis=1) for classes in (own, other)]
    rates = np.array([dump.routes[held[0] & ~held[1]].mean(axis=0), dump.routes[held[1] & ~held[0]].mean(axis=0)])
    far = int(np.abs(rates[0] - rates[1]).argmax())
    kind = 'all' if test.exact else 'random'
    text = (f'The mean routes of {first} ({test.sizes[0]} images) and {second} ({test.sizes[1]}) are {test.distance:.3f} '
            f'apart; {dump.units[far]} differs most ({rates[0, far]:.2f} against {rates[1, far]:.2f}).\n'
            f'Permutation test over images: p = {test.p_images:.2g} ({permutations} random divisions of these images; '
            'a small p says that the routes differ).\n'
            f'Permutation test over classes: p = {test.p_classes:.2g} ({kind} {test.splits} divisions of these classes '
            f'into {len(own)} and {len(other)}; a small p says that no other division parts the routes as well).')
    return Section('groups', f'{first} against {second}', text,
                   figures.draw_groups(rates, dump.units, (first, second), test))


def make_sections(dump: RouteDump, groups: Optional[tuple[Group, Group]], *, permutations: int, clusters: int,
                  seed: int, images: int = 2 * COLUMNS) -> list[Section]:
    """All parts of the report; one that the dump holds nothing for says so.

    Args:
        groups: Two groups of classes to compare.
        permutations: Random divisions that a comparison is tested with.
        clusters: Wanted number of clusters of routes.
        seed: Of everything that is drawn at random.
        images: To show, of the least and of the most expensive ones each.
    """
    rng = np.random.default_rng(seed)
    sections = [cost_section(dump)]
    if groups:
        sections.append(groups_section(dump, groups, permutations, rng))
    if dump.held is not None and dump.held.any():
        sections += [*class_sections(dump), information_section(dump, rng)]
    else:
        sections.append(Section('heatmap', 'Classes', 'Left out: the dump was made without ground truth.'))
    return [*sections, cluster_section(dump, clusters, seed, rng), objects_section(dump),
            images_section(dump, images, rng)]
