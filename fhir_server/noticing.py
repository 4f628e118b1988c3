"""Subscriptions and their notices, by the settings: part of the composition root."""

from fhir_server.access.caller import Stands
from fhir_server.access.keeper import Keeper
from fhir_server.events.dispatcher import Dispatcher
from fhir_server.events.keeping import Keeping
from fhir_server.events.sockets import Sockets
from fhir_server.events.terms import OpenSession, Terms
from fhir_server.outgoing import Outgoing
from fhir_server.search.limits import Limits
from fhir_server.settings import Settings
from fhir_server.storage.interface import Store


def terms(settings: Settings) -> Terms:
    """What is set of subscriptions and their notices."""
    return Terms(
        base=settings.base,
        clock=settings.clock,
        endpoints=Outgoing(
            settings.notices_to, settings.outgoing_private_hosts, loopback=settings.auth == "none"
        ),
        limits=Limits(max_values=settings.max_values, max_parameters=settings.max_parameters),
        days=settings.subscription_days,
        most=settings.max_subscriptions,
        concurrency=settings.notice_concurrency,
        every=settings.notice_every,
        patience=settings.notice_patience,
        retry_first=settings.notice_retry_first,
        retry_longest=settings.notice_retry_longest,
        retry_for=settings.notice_retry_hours * 3600,
        event_days=settings.notice_days,
        lease=settings.notice_lease,
    )


def keeper(settings: Settings) -> Keeper:
    """What sees to Subscriptions as they are written; of each session, so it reads nothing yet."""
    return Keeping(lambda: terms(settings))


def dispatcher(
    settings: Settings, store: Store, open_session: OpenSession, sockets: Sockets, stands: Stands
) -> Dispatcher:
    """What sends notices in this process, each as the subscription's caller may see it then."""
    return Dispatcher(store, terms(settings), open_session, sockets, stands)
