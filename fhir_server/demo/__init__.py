"""`keyworking demo --admission`: the story of a stay, played against a running server.

The year that `keyworking demo` plays is in `fhir_server.demo.year`.

Every step asks the server over HTTP as another system would, checks the answer, and tells it in
words that need no knowledge of FHIR.
"""

import time
from collections.abc import Callable
from typing import Final

from rich.console import Console

from fhir_server.demo.casting import YoungPerson, find, require_caseload
from fhir_server.demo.chapters import Tale, close_plan
from fhir_server.demo.conversation import CannotPlay, Conversation, NotAsTold, is_loopback
from fhir_server.demo.readings import now
from fhir_server.demo.script import CHAPTERS, Chapter
from fhir_server.demo.telling import Teller, console
from fhir_server.story import Stay, stay

__all__ = ["CannotPlay", "NotAsTold", "is_loopback", "play", "waiting"]

Wait = Callable[[], None]
"""What comes between two steps."""


def play(server: str, *, full: bool, wait: Wait) -> None:
    """The whole story, told to the terminal.

    Raises:
        CannotPlay: the server is not there, or nobody of a synthetic caseload is.
        NotAsTold: a step did not come out as the story says.
    """
    conversation = Conversation(server)
    teller = Teller(console(), full=full)
    try:
        require_caseload(conversation)
        _tell(Tale(conversation, teller, *_cast(conversation)), wait)
    finally:
        conversation.close()


def waiting(pause: float | None, *, ask: bool) -> Wait:
    """Seconds between the steps, or a key press, or neither."""
    if pause is not None:
        return lambda: time.sleep(pause)
    if ask:
        return lambda: _await_enter(console())
    return lambda: None


def _await_enter(out: Console) -> None:
    out.print("Press Enter to go on", style="dim", end=" ")
    input()


def _cast(server: Conversation) -> tuple[YoungPerson, Stay]:
    """Whom it is about, and a stay that no other run has."""
    person = find(server)
    return person, stay(person.nhs_number, now())


def _tell(tale: Tale, wait: Wait) -> None:
    tale.teller.title("An admission message in, a care plan out")
    tale.teller.say(
        f"The server at {tale.server.base} coordinates the care of children and young people with "
        "a learning disability, autism or both who may go into, or are in, a mental health "
        f"hospital. This is what it does for one of them, in {len(CHAPTERS)} steps."
    )
    try:
        for number, chapter in enumerate(CHAPTERS, 1):
            _play(tale, chapter, number)
            wait()
    except BaseException:
        _send_home(tale)
        raise
    _sum_up(tale)


def _play(tale: Tale, chapter: Chapter, number: int) -> None:
    title = chapter.title.format(name=tale.name)
    tale.teller.title(f"{number} of {len(CHAPTERS)}: {title}")
    tale.teller.say(chapter.why.format(name=tale.name))
    chapter.play(tale)


def _send_home(tale: Tale) -> None:
    """A story that breaks off leaves nobody in hospital and no plan open."""
    if tale.encounter and tale.left is None:
        tale.server.post("$process-message", tale.stay.discharge(now()))
        if tale.plan:
            close_plan(tale)


_SUMMARY: Final = (
    "One message from the ward was enough: {name} went from {before} to blue, a discharge plan "
    "with 14 items and its tasks stood the same moment, and the community team could read it with "
    "{name}'s own goals.",
    "The same message twice did no harm, an old copy overwrote nothing, and a message about nobody "
    "was refused.",
    "One message sent {name} home: red for 14 days, and follow-up within 24 hours, 72 hours and "
    "7 days.",
    "{name} is at home again, so this demo can be played again: another run, perhaps another young "
    "person. That took {requests} requests in FHIR R4, the standard that NHS systems speak; "
    "`keyworking demo --admission --full` shows each of them whole.",
)


def _sum_up(tale: Tale) -> None:
    tale.teller.title("What this was")
    told = {"name": tale.name, "before": tale.before, "requests": tale.server.requests}
    tale.teller.say(*(paragraph.format(**told) for paragraph in _SUMMARY))
