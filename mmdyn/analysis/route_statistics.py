"""What routes have to do with classes: information, clusters, permutation tests. Arrays in, numbers out."""
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from scipy.cluster.vq import kmeans2

# Up to so many ways of dividing the classes, all are tried.
EXACT_SPLITS = 20_000


def open_rates(routes: np.ndarray, held: np.ndarray) -> np.ndarray:
    """(C, U) shares of each class's images for which each unit is open; NaN for classes without images."""
    counts = held.sum(axis=0)[:, None]
    with np.errstate(invalid='ignore'):
        return held.T.astype(float) @ routes / np.where(counts, counts, np.nan)


def class_weights(held: np.ndarray) -> np.ndarray:
    """(N, C): each image counts once, in equal shares for the classes that it holds; without classes, not at all."""
    return held / np.maximum(held.sum(axis=1, keepdims=True), 1)


def information(joint: np.ndarray) -> np.ndarray:
    """Mutual information in bits of joint distributions (..., Z, C), which need not sum to 1 yet."""
    joint = joint / joint.sum(axis=(-2, -1), keepdims=True)
    independent = joint.sum(axis=-1, keepdims=True) * joint.sum(axis=-2, keepdims=True)
    with np.errstate(divide='ignore', invalid='ignore'):
        terms = joint * np.log2(joint / independent)
    return np.where(joint > 0, terms, 0).sum(axis=(-2, -1))


def entropy(weights: np.ndarray) -> float:
    """In bits, of the classes that (N, C) weights describe."""
    shares = weights.sum(axis=0) / weights.sum()
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


def unit_information(routes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(U,) bits that each unit's being open or closed tells of the class."""
    is_open = routes.T.astype(float) @ weights
    return information(np.stack([is_open, weights.sum(axis=0) - is_open], axis=1))


def group_information(assignment: np.ndarray, weights: np.ndarray) -> float:
    """Bits that (N,) group indices, such as clusters, tell of the class."""
    joint = np.zeros((assignment.max() + 1, weights.shape[1]))
    np.add.at(joint, assignment, weights)
    return float(information(joint))


def information_by_chance(measure, weights: np.ndarray, rounds: int, rng: np.random.Generator) -> np.ndarray:
    """(rounds, ...) of ``measure(weights)`` with the classes dealt out to the images at random."""
    return np.array([measure(weights[rng.permutation(len(weights))]) for _ in range(rounds)])


def cluster_routes(routes: np.ndarray, clusters: int, order_by: np.ndarray, seed: int = 0) -> np.ndarray:
    """K-means of the routes.

    Args:
        routes: (N, U) bool.
        clusters: Wanted; there are fewer where there are fewer distinct routes.
        order_by: (N,) numbers; clusters are numbered by their mean of it.

    Returns:
        (N,) cluster of each image, from 0 and without gaps.
    """
    distinct = len(np.unique(routes, axis=0))
    _, labels = kmeans2(routes.astype(float), min(clusters, distinct), minit='++', seed=seed)
    found = np.unique(labels)
    ordered = found[np.argsort([order_by[labels == cluster].mean() for cluster in found])]
    return np.argsort(ordered)[np.searchsorted(found, labels)]


@dataclass(frozen=True)
class GroupTest:
    """Do two groups of classes take different routes?

    Attributes:
        distance: Euclidean distance between the groups' mean open rates.
        sizes: Images in the first and in the second group.
        p_images: Share of random divisions of the same images that are at least as far apart.
        p_classes: Share of the divisions of the same classes into groups of these sizes that are; it asks whether this
            division is special, where the former asks only whether there is any difference.
        splits: Number of divisions of the classes that were tried.
        exact: Whether these are all there are.
    """

    distance: float
    sizes: tuple[int, int]
    p_images: float
    p_classes: float
    splits: int
    exact: bool


def group_test(routes: np.ndarray, held: np.ndarray, groups: tuple[Sequence[int], Sequence[int]], permutations: int,
               rng: np.random.Generator) -> GroupTest:
    """Permutation tests of the distance between two groups' mean routes.

    Args:
        routes: (N, U) bool.
        held: (N, C) bool. Images that hold classes of both groups are left out.
        groups: Class indices of either, each with at least one image.
        permutations: Random divisions of the images, and most of the classes where these are too many to try all.
    """
    first, second = (held[:, list(group)].any(axis=1) for group in groups)
    kept = first ^ second
    routes, first = routes[kept].astype(np.float32), first[kept]
    count, rest = int(first.sum()), int((~first).sum())
    total = routes.sum(axis=0)

    def distances(chosen: np.ndarray) -> np.ndarray:
        sums = chosen.astype(np.float32) @ routes
        return np.linalg.norm(sums / count - (total - sums) / rest, axis=1)

    observed = distances(first[None])[0]
    tolerance = 1 - 1e-5  # float32: equal divisions must count as equal
    hits, done = 0, 0
    while done < permutations:
        batch = min(200, permutations - done)
        hits += int((distances(rng.permuted(np.tile(first, (batch, 1)), axis=1)) >= observed * tolerance).sum())
        done += batch
    p_classes, splits, exact = _class_test(routes, held[kept], groups, permutations, rng)
    return GroupTest(float(observed), (count, rest), (hits + 1) / (permutations + 1), p_classes, splits, exact)


def _class_test(routes: np.ndarray, held: np.ndarray, groups: tuple[Sequence[int], Sequence[int]], permutations: int,
                rng: np.random.Generator) -> tuple[float, int, bool]:
    classes = [*groups[0], *groups[1]]
    rates = open_rates(routes, held[:, classes])
    count, number = len(classes), len(groups[0])
    exact = comb(count, number) <= EXACT_SPLITS
    if exact:
        splits: np.ndarray = np.zeros((comb(count, number), count), dtype=bool)
        for row, chosen in zip(splits, combinations(range(count), number)):
            row[list(chosen)] = True  # the first is the division that is asked about
    else:
        own = np.arange(count) < number
        splits = np.concatenate([own[None], rng.permuted(np.tile(own, (permutations, 1)), axis=1)])
    sums = splits @ rates
    distances = np.linalg.norm(sums / number - (rates.sum(axis=0) - sums) / (count - number), axis=1)
    return float((distances >= distances[0] * (1 - 1e-9)).mean()), len(splits), exact
