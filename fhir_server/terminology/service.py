"""The terminology service of one caller: finds what a question needs, then answers it.

Sources: https://hl7.org/fhir/R4/terminology-service.html, https://hl7.org/fhir/R4/codesystem.html
#subsumes. What cannot be said here is asked of the terminology server that the settings name.
"""

import asyncio
from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.terminology.codes import CodeSet, listed
from fhir_server.terminology.compose import MAX_CODES, Composer, unknown
from fhir_server.terminology.library import Catalogue, Library, gather
from fhir_server.terminology.outside import Outside

__all__ = ["MAX_CODES", "Terminology"]


class Terminology:
    """Answers for one search or operation: what it has looked up once, it knows.

    Args:
        max_codes: how many codes all that is asked may come to.
        outside: what is asked about that which is not known here.
    """

    def __init__(
        self, library: Library, max_codes: int = MAX_CODES, outside: Outside | None = None
    ) -> None:
        self.library: Final = library
        self.outside: Final = outside
        self.max_codes: Final = max_codes
        self.catalogue: Final = Catalogue()
        self._composer = Composer(self.catalogue, max_codes)

    async def expand(self, url: str, local: str = "") -> CodeSet:
        """The codes of a value set.

        Args:
            url: its canonical address, perhaps with `|version`.
            local: `ValueSet/id`, where the address may be that of a resource on this server.

        Raises:
            FhirError: INVALID where it or what it needs is not known, or includes itself;
                UNSUPPORTED where its codes cannot be said; TOO_COSTLY for too many.
        """
        await self._find(url, local)
        await self.gather(("ValueSet", url))
        try:
            # Beside the loop: there may be a hundred thousand concepts.
            return await asyncio.to_thread(self._composer.codes, url)
        except FhirError as error:
            if self.outside is None or not _is_gap(error):
                raise
            held = self.catalogue.value_set(url)
            codes = await self.outside.codes(url, held.resource if held else None, self.max_codes)
            self._composer.account(codes.size)
            return codes

    async def subsumed(self, system: str, code: str, *, below: bool) -> CodeSet:
        """The code and all codes that it subsumes, or that subsume it.

        Raises:
            FhirError: as `expand`, also for a code that the system has not.
        """
        await self.gather(("CodeSystem", system))
        held = self.catalogue.code_system(system)
        if held is None or not held.system.is_complete:
            if self.outside is not None:
                codes = await self.outside.related(system, code, below, self.max_codes)
                self._composer.account(codes.size)
                return codes
            if held is None:
                raise unknown("code system", system)
        related = await asyncio.to_thread(lambda: held.system.related(code, below=below))
        self._composer.account(len(related))
        return listed(system, related)

    async def gather(self, *needed: tuple[str, str], every_system: bool = False) -> None:
        """Find what is needed (types and addresses), with whatever that needs in its turn."""
        await gather(self.catalogue, self.library, needed, every_system=every_system)

    async def _find(self, url: str, local: str) -> None:
        """A value set of this server counts where none has the address."""
        if not local or ("ValueSet", url) in self.catalogue:
            return
        named = None if url == local else await self.library.named("ValueSet", url)
        self.catalogue.put("ValueSet", url, named or await self.library.at(local))


def _is_gap(error: FhirError) -> bool:
    """Whether it is about something that is not known here, rather than wrong or too much."""
    return error.kind is Kind.UNSUPPORTED or any(
        issue.code == "not-found" for issue in error.issues
    )
