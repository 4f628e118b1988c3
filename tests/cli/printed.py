"""The lines that `keyworking serve --synthetic-caseload` prints, and what they promise."""

import re
import shlex
from pathlib import Path
from typing import Final

PRINTED: Final = {
    "Who is supported?": r'"resourceType": ?"Patient"',
    "One young person's plan, with its goals": r'"resourceType": ?"Goal"',
    "How likely is an admission?": r'"valueCode": ?"amber"',
    "The ward tells of an admission": r"The rating is blue",
    "Now the rating is blue": r'"name": ?"rating",\s*"valueCode": ?"blue"',
    "and a discharge plan is open": r'"name": ?"open"',
    "CAMHS looks for discharge plans": r'"code": ?"discharge-plan"',
    "The ward tells of the discharge": r"The rating is red",
    "What must be done by when?": r"Follow-up within 72 hours",
    "What can this server do?": r'"fhirVersion": ?"4\.0\.1"',
}
"""What each printed comment promises of the answer."""


def printed_lines(printed: str) -> list[tuple[str, str]]:
    """Comment and command of each example."""
    return re.findall(r"^  # (.+)\n  (curl .+)$", printed, re.MULTILINE)


def request_of(command: str, folder: Path) -> tuple[str, str, dict[str, str], bytes | None]:
    """Method, address, headers, body: of curl with `-s`, `-H`, `-d @file` and an address."""
    words = iter(shlex.split(command)[1:])
    headers, content, url = dict[str, str](), None, ""
    for word in words:
        match word:
            case "-s":
                continue
            case "-H":
                name, _, value = next(words).partition(":")
                headers[name] = value.strip()
            case "-d":
                content = (folder / next(words).removeprefix("@")).read_bytes()
            case _:
                url = word
    return "GET" if content is None else "POST", url, headers, content
