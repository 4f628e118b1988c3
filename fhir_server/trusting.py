"""Whose tokens are taken, by the settings: part of the composition root.

The built-in issuer is one more `Issuer`, with keys and revocations that the store has.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fhir_server.access.caller import Stands
from fhir_server.access.issued import ALGORITHM, Issued
from fhir_server.access.ledger import Ledger
from fhir_server.access.tokens.authentication import Authenticator, Trust
from fhir_server.access.tokens.claims import ClaimNames, Expected
from fhir_server.access.tokens.fetching import Outgoing
from fhir_server.access.tokens.introspection import Introspection
from fhir_server.access.tokens.jwt import Issuer
from fhir_server.access.tokens.smart import SmartConfiguration
from fhir_server.access.tokens.sources import Load, LoadedKeys, from_file, from_url
from fhir_server.authorisation.authority import Authority, Terms
from fhir_server.authorisation.fetching import KeySets
from fhir_server.authorisation.registered import Elsewhere, Registered
from fhir_server.settings import Settings
from fhir_server.storage.interface import Reader, Store


def authentication(
    settings: Settings, clock: Callable[[], int], reader: Reader
) -> Authenticator | None:
    """What says who asks; None with `--auth none`, where nobody is asked."""
    if settings.auth == "none":
        return None
    if settings.auth is None:
        return Authenticator(Trust(settings.base), clock)
    return Authenticator(trust(settings, reader), clock)


def standing(
    settings: Settings, clock: Callable[[], int], store: Store, asker: Authenticator | None
) -> Stands:
    """What says what is left of a caller by now, for work that outlives a token."""
    elsewhere = Elsewhere(clock, settings.token_outlived)
    if asker is not None:
        elsewhere = replace(elsewhere, stands=asker.stands)
    return Registered(Ledger(store), settings.authorisation, elsewhere).caller


def trust(settings: Settings, reader: Reader) -> Trust:
    """Whose tokens are taken, by the settings; the built-in issuer's are found by the reader.

    Where all tokens of an issuer are put to that issuer, JWTs too, there is no other beside it.
    """
    given = _of_settings(settings)
    if not settings.authorisation_server or (given.introspection and not given.issuers):
        return given
    name = settings.authorisation
    issued = Issued(reader, name)
    expected = Expected(name, settings.base, leeway=settings.token_leeway)
    algorithms = frozenset({ALGORITHM})
    built_in = Issuer(expected, issued, algorithms, ClaimNames(), tells_revocations=True)
    return replace(given, issuers={**given.issuers, name: built_in}, revocations=issued)


def _of_settings(settings: Settings) -> Trust:
    """The issuer elsewhere that the settings name."""
    expected = Expected(
        settings.issuer, settings.audience or settings.base, leeway=settings.token_leeway
    )
    outgoing = Outgoing(settings.issuer_patience, settings.outgoing_private_hosts)
    issuers = {}
    if settings.jwks:
        keys = LoadedKeys(_jwks(settings, outgoing), settings.jwks_interval, settings.jwks_max_age)
        algorithms = frozenset(settings.token_algorithms)
        issuers[settings.issuer] = Issuer(expected, keys, algorithms)
    asked = None
    if settings.introspection_url:
        client, secret = settings.introspection_client, settings.token_secret()
        asked = Introspection(settings.introspection_url, client, secret, expected, outgoing)
    return Trust(
        settings.base,
        issuers,
        asked,
        names=_claim_names(settings),
        max_token=settings.token_max,
        cache=settings.token_cache,
        introspection_cache=settings.introspection_cache,
    )


def _jwks(settings: Settings, outgoing: Outgoing) -> Load:
    if "://" in settings.jwks:
        return from_url(settings.jwks, outgoing)
    return from_file(Path(settings.jwks))


def _claim_names(settings: Settings) -> ClaimNames:
    return ClaimNames(
        client=settings.claim_client,
        scope=settings.claim_scope,
        user=settings.claim_user,
        organisation=settings.claim_organisation,
        role=settings.claim_role,
        purpose=settings.claim_purpose,
        patient=settings.claim_patient,
    )


def smart_configuration(settings: Settings) -> SmartConfiguration | None:
    """What clients are told of where tokens come from."""
    if settings.auth != "token":
        return None
    if not settings.issuer:
        return _built_in(settings.authorisation)
    return SmartConfiguration(
        issuer=settings.issuer,
        jwks_uri=settings.jwks if "://" in settings.jwks else "",
        authorization_endpoint=settings.authorize_endpoint,
        token_endpoint=settings.token_endpoint,
        introspection_endpoint=settings.introspection_url,
        revocation_endpoint=settings.revocation_endpoint,
    )


def _built_in(base: str) -> SmartConfiguration:
    return SmartConfiguration(
        issuer=base,
        jwks_uri=f"{base}/jwks",
        token_endpoint=f"{base}/token",
        introspection_endpoint=f"{base}/introspect",
        revocation_endpoint=f"{base}/revoke",
        grants=("client_credentials",),
        capabilities=("client-confidential-asymmetric",),
    )


def authority(settings: Settings, ledger: Ledger) -> Authority:
    """The built-in authorisation server."""
    terms = Terms(settings.authorisation, settings.base, settings.token_lifetime)
    sets = KeySets(Outgoing(private_hosts=settings.outgoing_private_hosts).get)
    return Authority(ledger, settings.clock, terms, sets)
