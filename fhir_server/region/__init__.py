"""The synthetic region: integrated care boards with a register each, of any size, from one seed.

`generate` makes it record by record, so that 42 boards take no more memory than one. What the
records say is the synthetic caseload's (`fhir_server.caseload`); here is how many there are, of
which age and rating, and which of a board's sixty organisations each belongs to. The same seed and
day give the same bytes.
"""

from collections.abc import Iterator

from fhir_server.caseload import everything_about
from fhir_server.region.area import Board, board_of
from fhir_server.region.asked import Asked, BadRegion
from fhir_server.region.members import Member, members
from fhir_server.region.placing import placed

__all__ = ["Asked", "BadRegion", "Board", "Member", "generate", "members", "records", "services"]


def generate(asked: Asked) -> Iterator[list[str]]:
    """The resources of each transaction as JSON: first each board's own, then a record each.

    A reference points only to what came before or stands beside it.
    """
    yield from services(asked)
    for member in members(asked):
        yield records(member)


def services(asked: Asked) -> Iterator[list[str]]:
    """Organisations, wards and staff, a list to each board."""
    for number in range(1, asked.boards + 1):
        yield [one.model_dump_json() for one in board_of(asked, number).resources()]


def records(member: Member) -> list[str]:
    """Everything about one young person."""
    return [placed(one.model_dump_json(), member) for one in everything_about(member.person)]
