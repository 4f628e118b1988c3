"""Distances on Earth, for `near` of Location.

Source: https://hl7.org/fhir/R4/location.html#search. The Earth is taken for a sphere of its mean
radius, which is within 0.6 % of the distance on the WGS84 ellipsoid; every backend uses this
formula, so that all agree on what is just within a distance.
"""

import math
from typing import Final, NamedTuple

RADIUS: Final = 6_371_008.8
"""Metres: the mean radius of the International Union of Geodesy and Geophysics."""
_FURTHEST: Final = math.pi * RADIUS
_SLACK: Final = 0.001
"""Metres: a box must not leave out what rounding puts within the distance."""


class Box(NamedTuple):
    """Degrees between which every place within a distance lies.

    `longitudes` are one range, two where the date line lies between, or all.
    """

    south: float
    north: float
    longitudes: tuple[tuple[float, float], ...]


def wrapped(longitude: float) -> float:
    """180 is the same meridian as -180."""
    return -180.0 if longitude == 180 else longitude


def metres(latitude: float, longitude: float, to_latitude: float, to_longitude: float) -> float:
    """The great-circle distance between two places in degrees (haversine formula), to the mm.

    The digits after that are not of the places but of the arithmetic, at the poles above all.
    """
    here, there = math.radians(latitude), math.radians(to_latitude)
    half_north = math.sin((there - here) / 2)
    half_east = math.sin(math.radians(to_longitude - longitude) / 2)
    square = half_north**2 + math.cos(here) * math.cos(there) * half_east**2
    return round(2 * RADIUS * math.asin(math.sqrt(min(1.0, square))), 3)


def box(latitude: float, longitude: float, distance: float) -> Box:
    """The box around all places within `distance` metres."""
    angle = min(distance + _SLACK, _FURTHEST) / RADIUS
    reach = math.degrees(angle)
    south, north = latitude - reach, latitude + reach
    if south <= -90 or north >= 90:
        # A pole is within reach, and with it every longitude.
        return Box(max(south, -90.0), min(north, 90.0), ((-180.0, 180.0),))
    ratio = min(1.0, math.sin(angle) / math.cos(math.radians(latitude)))
    width = math.degrees(math.asin(ratio))
    return Box(south, north, _across(longitude - width, longitude + width))


def _across(west: float, east: float) -> tuple[tuple[float, float], ...]:
    """The range, in two parts where it goes over the date line."""
    if east - west >= 360:
        return ((-180.0, 180.0),)
    if west < -180:
        return (west + 360, 180.0), (-180.0, east)
    if east >= 180:
        return (west, 180.0), (-180.0, east - 360)
    return ((west, east),)
