"""What a commit does, as its session remembers it until the commit ends."""

from dataclasses import dataclass, field

from msgspec import structs

from fhir_server.access.audit.record import Record, bounded, name_of, of_caller, patients_of
from fhir_server.access.caller import Caller
from fhir_server.storage.audited import MOST_TARGETS, AuditRow
from fhir_server.storage.interface import StoredVersion


@dataclass(slots=True)
class Done:
    """What a commit does, whoever's rights it is done with."""

    action: str
    touched: list[StoredVersion] = field(default_factory=list)
    made: list[StoredVersion] = field(default_factory=list)
    """Of those, the versions that were not there before."""
    gone: list[StoredVersion] = field(default_factory=list)
    """What was there before deletions, which say nothing of whom they are about."""
    acting_for: str = ""
    """Why it was done with the service's rights; '' where it was not."""
    glass: str = ""
    """Why the glass was broken; '' where it was not."""
    fresh: set[str] = field(default_factory=set)
    """Ids of patients that it made."""
    about: set[str] = field(default_factory=set)
    """Ids of patients about whom it wrote."""
    unsettled: dict[tuple[str, str], StoredVersion | None] = field(default_factory=dict)
    """What rules have not looked at yet, as it was before it was written."""
    received: list[str] = field(default_factory=list)
    """The AuditEvents of clients that it stored, as its row tells of them."""
    followed: list[StoredVersion] = field(default_factory=list)
    """Of `touched`, what the service's rules wrote."""
    shared: dict[type, object] = field(default_factory=dict)
    """What an operation and the rules have together, by its type."""

    @property
    def told(self) -> str:
        """For the audit, where there is something to tell."""
        parts = [f"as the service: {self.acting_for}"] if self.acting_for else []
        if self.followed:
            names = dict.fromkeys(map(name_of, self.followed))
            parts.append(f"by the service's rules: {', '.join(names)}")
        return bounded("; ".join(parts), 500)

    def row(self, caller: Caller, record: Record | None) -> AuditRow:
        """The commit's row in the audit."""
        patients = tuple(patients_of([*self.touched, *self.gone]))
        if record is None:
            targets = tuple(map(name_of, self.touched[:MOST_TARGETS]))
            row = AuditRow(
                action=bounded(self.action, 100),
                request_id=bounded(caller.request_id, 200),
                targets=targets,
                further=len(self.touched) - len(targets),
                **of_caller(caller),
            )
        else:
            row = record.written(self.action, self.touched)
        every = tuple(dict.fromkeys((*row.patients, *patients)))
        description, reason = self.told or row.description, bounded(self.glass, 500)
        return structs.replace(
            row,
            patients=every,
            description=description,
            break_glass=reason or row.break_glass,
            received=tuple(self.received),
        )
