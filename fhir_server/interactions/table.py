"""The one table of routes: a whole FHIR REST API on a page.

https://hl7.org/fhir/R4/http.html#summary
"""

from typing import Final

from fhir_server.fhir.summary import PARAMETERS
from fhir_server.interactions import (
    asynchronous,
    audit_events,
    batch,
    capabilities,
    conditions,
    create,
    delete,
    history,
    operation,
    patch,
    read,
    search,
    update,
    vread,
)
from fhir_server.interactions.routing import Interaction, Route, Router

READ: Final = Interaction("read", read.perform, takes=PARAMETERS, answers=True)
VREAD: Final = Interaction("vread", vread.perform, takes=PARAMETERS, answers=True)
HISTORY: Final = Interaction(
    "history-instance", history.perform, reads_parameters=True, answers=True
)
SEARCH: Final = Interaction("search-type", search.perform, reads_parameters=True, answers=True)
SEARCH_ALL: Final = Interaction(
    "search-system", search.perform_on_all, reads_parameters=True, answers=True
)
SEARCH_COMPARTMENT: Final = Interaction(
    "search-compartment", search.perform_in_compartment, reads_parameters=True, answers=True
)
HISTORY_OF_TYPE: Final = Interaction(
    "history-type", history.perform, reads_parameters=True, answers=True
)
HISTORY_OF_ALL: Final = Interaction(
    "history-system", history.perform, reads_parameters=True, answers=True
)
CREATE: Final = Interaction(
    "create",
    create.perform,
    writes=True,
    prepare=create.prepare,
    resolve=conditions.resolve_create,
)
UPDATE: Final = Interaction("update", update.perform, writes=True, prepare=update.prepare)
UPDATE_CONDITIONAL: Final = Interaction(
    "update",
    update.perform,
    writes=True,
    prepare=update.prepare_conditional,
    resolve=conditions.resolve_update,
    reads_parameters=True,
)
PATCH: Final = Interaction(
    "patch", patch.perform, writes=True, prepare=patch.prepare, ahead=patch.ahead
)
PATCH_CONDITIONAL: Final = Interaction(
    "patch",
    patch.perform,
    writes=True,
    prepare=patch.prepare,
    ahead=patch.ahead,
    resolve=conditions.resolve_patch,
    reads_parameters=True,
)
DELETE: Final = Interaction("delete", delete.perform, writes=True)
DELETE_CONDITIONAL: Final = Interaction(
    "delete",
    delete.perform_conditional,
    writes=True,
    resolve=conditions.resolve_delete,
    reads_parameters=True,
)
BUNDLE: Final = Interaction("batch", batch.perform, in_transaction=False, in_batch=False)
CAPABILITIES: Final = Interaction(
    "capabilities", capabilities.perform, in_transaction=False, reads_parameters=True
)
OPERATION: Final = Interaction(
    "operation", operation.perform, in_transaction=False, reads_parameters=True
)

JOB: Final = Interaction("job", asynchronous.perform, in_transaction=False, in_batch=False)
JOB_CANCEL: Final = Interaction(
    "job-cancel", asynchronous.cancel, in_transaction=False, in_batch=False
)
JOB_FILE: Final = Interaction(
    "job-file", asynchronous.file, in_transaction=False, in_batch=False, own_media=True
)

AUDIT_READ: Final = Interaction("read", audit_events.read, in_transaction=False, takes=PARAMETERS)
AUDIT_VREAD: Final = Interaction("vread", audit_events.read, in_transaction=False, takes=PARAMETERS)
AUDIT_HISTORY: Final = Interaction(
    "history-instance", audit_events.history, in_transaction=False, reads_parameters=True
)
AUDIT_CREATE: Final = Interaction(
    "create",
    audit_events.create,
    writes=True,
    prepare=create.prepare,
    resolve=audit_events.resolve_create,
)
AUDIT_UPDATE: Final = Interaction(
    "update", audit_events.update, writes=True, prepare=update.prepare
)
AUDIT_SEARCH: Final = Interaction(
    "search-type", audit_events.search, in_transaction=False, reads_parameters=True
)

ROUTER: Final = Router(
    (
        Route("GET", "metadata", CAPABILITIES),
        Route("POST", "", BUNDLE),
        Route("GET", "", SEARCH_ALL),
        Route("POST", "_search", SEARCH_ALL),
        Route("GET", "_history", HISTORY_OF_ALL),
        Route("GET", "_jobs/{id}", JOB),
        Route("DELETE", "_jobs/{id}", JOB_CANCEL),
        Route("GET", "_jobs/{id}/{member}/{version}", JOB_FILE),
        Route("GET", "{type}", SEARCH),
        Route("POST", "{type}/_search", SEARCH),
        Route("POST", "{type}", CREATE),
        Route("PUT", "{type}", UPDATE_CONDITIONAL),
        Route("PATCH", "{type}", PATCH_CONDITIONAL),
        Route("DELETE", "{type}", DELETE_CONDITIONAL),
        Route("GET", "{type}/_history", HISTORY_OF_TYPE),
        Route("GET", "{type}/{id}", READ),
        Route("PUT", "{type}/{id}", UPDATE),
        Route("PATCH", "{type}/{id}", PATCH),
        Route("DELETE", "{type}/{id}", DELETE),
        Route("GET", "{type}/{id}/_history", HISTORY),
        Route("GET", "{type}/{id}/_history/{version}", VREAD),
        Route("GET", "{type}/{id}/{member}", SEARCH_COMPARTMENT),
        Route("POST", "{type}/{id}/{member}/_search", SEARCH_COMPARTMENT),
        Route("GET", "{operation}", OPERATION),
        Route("POST", "{operation}", OPERATION),
        Route("GET", "{type}/{operation}", OPERATION),
        Route("POST", "{type}/{operation}", OPERATION),
        Route("GET", "{type}/{id}/{operation}", OPERATION),
        Route("POST", "{type}/{id}/{operation}", OPERATION),
    ),
    own={
        "AuditEvent": (
            Route("GET", "{type}", AUDIT_SEARCH),
            Route("POST", "{type}/_search", AUDIT_SEARCH),
            Route("POST", "{type}", AUDIT_CREATE),
            Route("GET", "{type}/{id}", AUDIT_READ),
            Route("PUT", "{type}/{id}", AUDIT_UPDATE),
            Route("GET", "{type}/{id}/_history", AUDIT_HISTORY),
            Route("GET", "{type}/{id}/_history/{version}", AUDIT_VREAD),
            Route("POST", "{type}/{operation}", OPERATION),
        ),
    },
)
