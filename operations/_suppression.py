"""Small numbers are not told, nor what would give them away by difference.

A count of 1 to 4 may say who is meant. Where a total and all parts but one are told, so is that
one: further parts are kept back until nobody can tell (complementary suppression).
"""

from collections.abc import Mapping


def is_small(count: int, threshold: int) -> bool:
    return 0 < count < threshold


def kept_back(parts: Mapping[str, int], threshold: int) -> frozenset[str]:
    """Which parts of a total are not told.

    At least two are kept back, and together they are not small: the smallest of the others go too.
    """
    small = [name for name, count in parts.items() if is_small(count, threshold)]
    if not small:
        return frozenset()
    rest = sorted(
        (name for name, count in parts.items() if count >= threshold),
        key=lambda name: (parts[name], name),
    )
    while rest and (len(small) < 2 or sum(parts[name] for name in small) < threshold):
        small.append(rest.pop(0))
    return frozenset(small)


def is_share_small(part: int, whole: int, threshold: int) -> bool:
    """Whether a share tells of a small number: of those in it, or of those who are not."""
    return any(is_small(count, threshold) for count in (part, whole, whole - part))
