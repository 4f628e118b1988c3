"""One birthday ends the service: from it on nobody is referred or rated, and the rating ends."""

from collections.abc import AsyncIterator

import httpx
import pytest

from fhir_server.app import create_app
from fhir_server.settings import Settings
from tests.operations.chart import Chart
from tests.operations.test_pathway import told
from tests.operations.test_pathway_operations import refer, young_person
from tests.operations.test_set_rating import flag_of, rate
from tests.operations.timing import born, involve, timers
from tests.support import assert_outcome


async def test_up_to_the_day_before_a_young_person_is_rated_and_referred(unknown: Chart) -> None:
    await young_person(unknown, born=born(25, -1))
    assert (await refer(unknown)).status_code == 200
    flag_of(await rate(unknown, "red"))


async def test_on_the_25th_birthday_nobody_is_rated_or_referred(unknown: Chart) -> None:
    await young_person(unknown, born=born(25))
    assert await unknown.rating() is None
    why = "The age is 25: keyworking is for those who have not had their 25th birthday"
    assert_outcome(await rate(unknown, "red"), 422, "business-rule", why, "Patient.birthDate")
    assert why in told(await refer(unknown))


@pytest.fixture
async def for_children(settings: Settings) -> AsyncIterator[Chart]:
    """On a server of an area whose service ends with the 18th birthday."""
    app = create_app(settings.model_copy(update={"eligible_until_age": 18}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
            yield Chart(client, app.state.store)


async def test_an_area_sets_the_birthday(for_children: Chart) -> None:
    await young_person(for_children, born=born(18))
    assert await for_children.rating() is None
    assert "not had their 18th birthday" in told(await refer(for_children))
    await involve(for_children)
    (task,) = await timers(for_children, "exit")
    assert task["description"] == "End the involvement: the service is for those below 18"
    assert await timers(for_children, "T-TRANSITION") == []
