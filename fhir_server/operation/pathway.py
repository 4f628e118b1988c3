"""The numbers of the keyworking pathway: each is one area's practice, or the project's own.

Operations and rules get them as `call.pathway` and `change.pathway`. Each is a setting with that
default (`fhir_server.setting_groups.pathway`); docs/settings.md says what it bounds.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_Count = Annotated[int, Field(ge=0, le=3650)]
"""Days, weeks or months that leave a due date within the calendar."""


class Numbers(BaseModel):
    """What can be set of it, with its default."""

    red_hold_days: _Count = 14
    """Days after discharge for which the rating is red at least."""
    hospital_contact_days: _Count = 1
    """Working days from an admission to the first contact with the hospital."""
    consent_request_days: _Count = 5
    """Working days to ask for a consent that is missing."""
    oversight_visit_child_days: _Count = 42
    """Days from an admission to the commissioner's visit, below the age of 18."""
    oversight_visit_adult_days: _Count = 56
    """The same from 18 on."""
    cetr_after_admission_days: _Count = 14
    """Days from an unplanned admission to the review that it calls for."""
    cetr_repeat_child_months: _Count = 3
    """Months between reviews in hospital, below the age of 18."""
    cetr_repeat_adult_months: _Count = 6
    """The same from 18 on."""
    cetr_repeat_secure_months: _Count = 12
    """The same from 18 on in a secure ward."""
    community_cetr_days: _Count = 90
    """Days before an admission for which a review in the community counts."""
    root_cause_days: _Count = 28
    """Days to find out why there was no review in the community."""
    care_plan_share_hours: _Count = 24
    """Hours from a discharge until the care plan has been sent."""
    follow_up_suicide_risk_hours: _Count = 48
    """Hours from a discharge to the follow-up where there is a risk of suicide."""
    follow_up_hours: _Count = 72
    """Hours from a discharge to the first follow-up of everybody."""
    follow_up_days: _Count = 7
    """Days from a discharge to the second."""
    risk_answers_days: _Count = 90
    """Days after which the answers to the risk questions count as old."""
    delay_reason_days: _Count = 1
    """Working days to say why somebody is in hospital still who is ready to leave."""

    family_contact_days: _Count = 5
    """Working days from the allocation of a keyworker to the first contact with the family."""
    team_contact_days: _Count = 10
    """Working days from it to the contact with the professionals, after the family."""
    first_visit_days: _Count = 15
    """Working days from it to the first visit, after both."""
    planning_visit_days: _Count = 10
    """Working days from the first visit to the second, which begins the plan."""
    step_down_review_days: _Count = 28
    """Days from the beginning of step-down to its first review."""
    eligible_until_age: Annotated[int, Field(ge=18, le=99)] = 25
    """The birthday, in years, from which on nobody is referred or rated, and the rating ends."""
    caseload_target: _Count = 10
    """Involvements of one keyworker that are meant."""
    caseload_warning: _Count = 12
    """Involvements of one keyworker above which an allocation is warned about."""
    caseload_limit: _Count = 15
    """Involvements above which an allocation needs a reason."""
    refer_green: bool = False
    """Whether a young person is referred at green too."""
    contact_days: _Count = 5
    """Working days from a referral to the first contact."""
    referral_review_days: _Count = 28
    """Days from a referral until the risk has been looked at."""
    review_red_days: Annotated[int, Field(ge=1, le=3650)] = 14
    """Days between two looks at a red rating."""
    review_amber_days: Annotated[int, Field(ge=1, le=3650)] = 28
    """The same of an amber one."""
    review_green_days: Annotated[int, Field(ge=1, le=3650)] = 90
    """The same of a green one."""
    consent_recheck_days: Annotated[int, Field(ge=1, le=3650)] = 365
    """Days after which it is asked whether a consent still stands."""
    consent_review_days: _Count = 5
    """Working days to talk about a consent that was withdrawn or has run out."""
    cetr_community_due_days: _Count = 14
    """Days from a red rating to the review in the community."""
    laep_days: _Count = 1
    """Working days to meet under the emergency protocol where an admission is imminent."""
    cetr_papers_hours: _Count = 24
    """Hours before a review by which its papers are with the panel."""
    proxy_notice_days: _Count = 28
    """Days before the 13th and the 16th birthday on which a parent's access is raised."""
    transition_first_months: _Count = 168
    """Months of age at which becoming an adult is first talked about."""
    transition_second_months: _Count = 210
    """Months of age at which the move to adults' services is prepared."""
    transition_begin_days: _Count = 28
    """Days from the beginning of a record until either is due where it is late for that."""
    retention_archive_months: _Count = 6
    """Months after the end of an involvement until its record is archived."""
    retention_delete_months: _Count = 72
    """Months after which it is removed."""
    escalation_days: _Count = 1
    """Working days after which what is overdue is the strategic keyworker's too."""
    register_organisation: Annotated[str, Field(pattern=r"^([A-Za-z0-9]{1,20})?$")] = ""
    """ODS code of the organisation that holds the register: it manages the record of whoever a
    message alone tells of. Empty: the organisation that the message names, else its sender."""
    v2_legal_status: Annotated[
        str, Field(pattern=r"^([A-Z][A-Z0-9]{2}-[1-9][0-9]?(\.[1-9][0-9]?)?)?$")
    ] = ""
    """Where an ADT has the legal status under the Mental Health Act: a field, such as `ZMH-2`, or
    a component, such as `ZMH-2.1`. Empty: it is not read."""
    small_number: _Count = 5
    """Counts below this, but for 0, are not told in reports."""
    rounded_reports: bool = False
    """Whether reports to whoever sees nobody have rounded numbers, of the calendar's periods alone:
    then nobody is found by comparing them."""


class Pathway(Numbers):
    """As operations and rules get it."""

    model_config = ConfigDict(frozen=True)
