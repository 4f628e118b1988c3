"""Small numbers are not told, nor what would give them away by difference.

A count of 1 to 4 may say who is meant. Where a total and all parts but one are told, so is that
one: further parts are kept back until nobody can tell (complementary suppression).
"""

from collections.abc import Collection, Mapping


def is_small(count: int, threshold: int) -> bool:
    return 0 < count < threshold


def kept_back(parts: Mapping[str, int], threshold: int) -> frozenset[str]:
    """Which parts of a total are not told.

    At least two are kept back, and together they leave it open how many are in each: the smallest
    of the others go too.
    """
    small = [name for name, count in parts.items() if is_small(count, threshold)]
    if not small:
        return frozenset()
    rest = sorted(
        (name for name, count in parts.items() if count >= threshold),
        key=lambda name: (parts[name], name),
    )
    while rest and would_tell([parts[name] for name in small], threshold):
        small.append(rest.pop(0))
    return frozenset(small)


def would_tell(back: Collection[int], threshold: int) -> bool:
    """Whether their sum, which the total and the others give away, tells of what is in each.

    None of them is empty, so that five of which the sum is five are one each: each of them has to
    be able to be more than a small number.
    """
    return bool(back) and (len(back) < 2 or sum(back) - len(back) + 1 < threshold)


def is_share_small(part: int, whole: int, threshold: int) -> bool:
    """Whether a share tells of a small number: of those in it, or of those who are not."""
    return any(is_small(count, threshold) for count in (part, whole, whole - part))
