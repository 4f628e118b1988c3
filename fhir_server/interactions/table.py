"""The one table of routes: a whole FHIR REST API on a page.

https://hl7.org/fhir/R4/http.html#summary
"""

from typing import Final

from fhir_server.interactions import (
    batch,
    capabilities,
    create,
    delete,
    history,
    operation,
    read,
    search,
    update,
    vread,
)
from fhir_server.interactions.routing import Interaction, Route, Router

READ: Final = Interaction("read", read.perform)
VREAD: Final = Interaction("vread", vread.perform)
HISTORY: Final = Interaction("history-instance", history.perform, reads_parameters=True)
SEARCH: Final = Interaction("search-type", search.perform, reads_parameters=True)
CREATE: Final = Interaction("create", create.perform, writes=True, prepare=create.prepare)
UPDATE: Final = Interaction("update", update.perform, writes=True, prepare=update.prepare)
DELETE: Final = Interaction("delete", delete.perform, writes=True)
BUNDLE: Final = Interaction("batch", batch.perform, in_transaction=False)
CAPABILITIES: Final = Interaction(
    "capabilities", capabilities.perform, in_transaction=False, reads_parameters=True
)
OPERATION: Final = Interaction(
    "operation", operation.perform, in_transaction=False, reads_parameters=True
)

ROUTER: Final = Router(
    (
        Route("GET", "metadata", CAPABILITIES),
        Route("POST", "", BUNDLE),
        Route("GET", "{type}", SEARCH),
        Route("POST", "{type}/_search", SEARCH),
        Route("POST", "{type}", CREATE),
        Route("GET", "{type}/{id}", READ),
        Route("PUT", "{type}/{id}", UPDATE),
        Route("DELETE", "{type}/{id}", DELETE),
        Route("GET", "{type}/{id}/_history", HISTORY),
        Route("GET", "{type}/{id}/_history/{version}", VREAD),
        Route("GET", "{operation}", OPERATION),
        Route("POST", "{operation}", OPERATION),
        Route("GET", "{type}/{operation}", OPERATION),
        Route("POST", "{type}/{operation}", OPERATION),
        Route("GET", "{type}/{id}/{operation}", OPERATION),
        Route("POST", "{type}/{id}/{operation}", OPERATION),
    )
)
