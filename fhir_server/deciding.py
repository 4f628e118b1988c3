"""Who may see and write what: a session of each caller, with the policy that the settings make."""

from functools import partial

from fhir_server.access.consent_policy import ConsentPolicy
from fhir_server.access.consent_terms import ScopeTerms
from fhir_server.access.decision import Decisions
from fhir_server.access.following import NO_RULES, Rules
from fhir_server.access.policy import Caller, ClosedPolicy, OpenPolicy, Rule
from fhir_server.access.policy import Policy as AccessPolicy
from fhir_server.access.session import Session
from fhir_server.access.tokens.terms import terms as scope_terms
from fhir_server.checking import packaged, terminology_server
from fhir_server.noticing import keeper
from fhir_server.settings import Settings
from fhir_server.storage.interface import Store


def scopes_of(settings: Settings) -> ScopeTerms:
    """What scopes come to at this server's address."""
    return partial(scope_terms, base=settings.base)


def policy_of(
    settings: Settings,
    caller: Caller,
    decisions: Decisions | None,
    scopes: ScopeTerms | None = None,
) -> AccessPolicy | Rule:
    """What the caller may see and write; nothing, where nobody chose who decides that."""
    if settings.auth == "none":
        return OpenPolicy()
    if settings.auth is None or decisions is None:
        return ClosedPolicy()
    return ConsentPolicy(decisions, caller, settings.clock, scopes or scopes_of(settings))


def session(
    settings: Settings,
    store: Store,
    caller: Caller,
    decisions: Decisions | None = None,
    rules: Rules = NO_RULES,
    scopes: ScopeTerms | None = None,
) -> Session:
    """A session of that caller; `scopes` are `scopes_of` the settings, where they are at hand."""
    policy = policy_of(settings, caller, decisions, scopes)
    outside = terminology_server(settings)
    codes = packaged(settings.packages)
    return Session(
        store, caller, policy, settings.max_codes, outside, codes, rules, keeper(settings)
    )
