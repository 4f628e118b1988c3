"""Distances on Earth: https://hl7.org/fhir/R4/location.html#search."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.search.geography import RADIUS, box, metres, wrapped

latitudes = st.floats(-90, 90) | st.sampled_from([-90.0, 90.0, 89.9999, 0.0])
longitudes = st.floats(-180, 180).map(wrapped) | st.sampled_from([-180.0, 179.9999, 0.0])


@pytest.mark.parametrize(
    ("here", "there", "kilometres"),
    [
        ((51.5074, -0.1278), (48.8566, 2.3522), 343.6),
        ((36.12, -86.67), (33.94, -118.40), 2886.4),
        ((0, 0), (0, 90), 10007.6),
        ((-90, 0), (90, 77), 20015.1),
        ((10, 20), (10, 20), 0),
    ],
)
def test_great_circle_distances(
    here: tuple[float, float], there: tuple[float, float], kilometres: float
) -> None:
    """Against distances told elsewhere: the second is the textbook's, from Nashville to LA."""
    assert metres(*here, *there) / 1000 == pytest.approx(kilometres, abs=0.2)


@given(latitudes, longitudes, latitudes, longitudes)
def test_the_distance_is_the_angle_between_the_places(
    north: float, east: float, to_north: float, to_east: float
) -> None:
    """By vectors from the centre of the Earth instead of haversines."""

    def vector(latitude: float, longitude: float) -> tuple[float, float, float]:
        phi, theta = math.radians(latitude), math.radians(longitude)
        across = math.cos(phi)
        return across * math.cos(theta), across * math.sin(theta), math.sin(phi)

    chord = math.dist(vector(north, east), vector(to_north, to_east))
    expected = 2 * math.asin(min(1.0, chord / 2)) * RADIUS
    assert metres(north, east, to_north, to_east) == pytest.approx(expected, rel=1e-6, abs=0.01)


@given(latitudes, longitudes, latitudes, longitudes, st.floats(0, 0.01))
def test_the_box_holds_every_place_within_the_distance(
    north: float, east: float, to_north: float, to_east: float, more: float
) -> None:
    distance = metres(north, east, to_north, to_east) + more
    south, top, ranges = box(north, east, distance)
    assert south <= to_north <= top
    assert any(west <= to_east <= end for west, end in ranges)


@given(latitudes, longitudes, st.floats(-0.01, 0.01), st.floats(-0.01, 0.01))
def test_the_box_holds_what_is_close_by(
    north: float, east: float, further_north: float, further_east: float
) -> None:
    to_north = max(-90.0, min(90.0, north + further_north))
    to_east = (east + further_east + 180) % 360 - 180
    south, top, ranges = box(north, east, metres(north, east, to_north, to_east))
    assert south <= to_north <= top
    assert any(west <= to_east <= end for west, end in ranges)


def test_a_small_box_is_small() -> None:
    south, north, ranges = box(51.5, -0.1, 1000)
    assert north - south < 0.02
    assert [end - west < 0.03 for west, end in ranges] == [True]
