"""Plain words for what records say in codes: short sentences, one idea each.

Every sentence here is the project's own, and is measured by a test: a child of nine should be able
to read it.
"""

from datetime import date
from typing import Final

TITLES: Final = {
    "keyworking-plan": "Your plan",
    "discharge-plan": "Your plan to leave hospital",
    "step-down-plan": "Your plan for less help",
    "transition-plan": "Your plan for growing up",
}
ROLES: Final = {
    "keyworker": ("your keyworker", "A keyworker is on your side. They help people listen to you."),
    "family-support-worker": ("here for your family", "They help the people you live with."),
    "strategic-keyworker": ("in charge of the keyworkers", "They step in when things get stuck."),
    "lead-professional": ("in charge of your care", "They check that people do their part."),
    "camhs": ("here to help you feel well", "They know a lot about how we feel and think."),
    "social-worker": ("your social worker", "They help you to be safe and well at home."),
    "education": ("from your school", "They help you to learn in a way that fits you."),
    "gp": ("your doctor", "They help you when you are ill."),
    "inpatient-rc": ("your doctor in hospital", "They look after you in hospital."),
    "advocate": ("your advocate", "They help you to say what you want."),
    "parent-carer": ("someone who cares for you", "They know you well."),
}
TASKS: Final = {
    "T-CONTACT": "We will get in touch with you.",
    "T-REVIEW-RED": "We will look at how safe you are.",
    "T-REVIEW-AMBER": "We will look at how things are going.",
    "T-REVIEW-GREEN": "We will look at how things are going.",
    "T-CONSENT-RECHECK": "We will ask if you still want our help.",
    "T-CETR-COMMUNITY": "There will be a big meeting about your care.",
    "T-CETR-POSTADM": "There will be a big meeting about your care.",
    "T-CETR-REPEAT": "There will be a big meeting about your care.",
    "T-OVERSIGHT-VISIT": "Someone will come to see if your care is good.",
    "T-CAREPLAN-SHARE": "We will send your plan to the people in it.",
    "T-FU-48": "Someone will come to see you or ring you.",
    "T-FU-72": "Someone will come to see you or ring you.",
    "T-FU-7D": "Someone will come to see you or ring you.",
    "T-TRANSITION": "We will talk about growing up.",
    "contact-hospital": "Your keyworker will ring the ward.",
    "obtain-consent": "We will ask if you want our help.",
    "contact-family": "Your keyworker will ring your family.",
    "contact-mdt": "Your keyworker will talk to the other people who help you.",
    "first-visit": "Your keyworker will come to meet you.",
    "planning-visit": "Your keyworker will come to make a plan with you.",
}
"""Of those that are not here, the young person is told nothing: they are between offices."""
ITEMS: Final = {
    "dp-start": "Start this plan.",
    "dp-voice": "Ask you what you want.",
    "dp-carers": "Ask the people who care for you.",
    "dp-cetr": "Hold a big meeting about your care.",
    "dp-planned-date": "Pick a day for you to leave.",
    "dp-home": "Find the right home for you.",
    "dp-community-team": "Find the team who will help you at home.",
    "dp-education": "Find the right school or college for you.",
    "dp-funding": "Agree who pays for your help.",
    "dp-crisis-plan": "Write down what helps on a bad day.",
    "dp-ra": "Write down what makes things work for you.",
    "dp-meds-physical": "Tell your doctor at home what you take.",
    "dp-agreements": "Check that you are happy with the plan.",
    "dp-mdt": "Bring all the people who help you together.",
}
GOAL_STATES: Final = {
    "proposed": "This is an idea so far.",
    "planned": "We have not begun yet.",
    "accepted": "We have not begun yet.",
    "active": "We are working on it.",
    "on-hold": "We have put this on hold.",
    "completed": "This one is done. Well done!",
    "cancelled": "We have stopped this one.",
}
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def in_words(text: str) -> str:
    """A FHIR date or dateTime: Friday 4 December 2026, or as much of it as is known."""
    day = text[:10]
    if len(day) == len("2026-12-04"):
        found = date.fromisoformat(day)
        return f"{_DAYS[found.weekday()]} {found.day} {_MONTHS[found.month - 1]} {found.year}"
    year, _, month = day.partition("-")
    return f"{_MONTHS[int(month) - 1]} {year}" if month else year
