"""Puts the scheduler together, for the composition root."""

from typing import Final

from fhir_server.access import moments
from fhir_server.access.policy import Caller, OpenPolicy
from fhir_server.access.session import Session
from fhir_server.interactions.exchange import Server
from fhir_server.jobs.scheduler import Diary, Scheduler
from fhir_server.storage.interface import Store

TIMERS: Final = "timers"
"""Who works off what time alone brings about, as the audit names it."""


def scheduler(store: Store, server: Server) -> Scheduler:
    """What works off, in one of the processes, what time alone brings about."""

    def open_session() -> Session:
        return Session(store, Caller(TIMERS), OpenPolicy(), rules=server.rules)

    diary = Diary(
        lambda now, count: moments.come(store, now, count),
        lambda name, now, until: moments.lead(store, name, now, until),
        lambda name: moments.let_go(store, name),
    )
    return Scheduler(diary, open_session, server.clock)
