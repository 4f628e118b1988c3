"""The forms of an easy read: a page to print, and a FHIR document.

What people wrote is escaped wherever it goes. The page loads nothing, runs nothing and links to
nothing. https://hl7.org/fhir/R4/documents.html
"""

from collections.abc import Sequence
from html import escape
from typing import Final

from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Written
from fhir_server.operation.records import reference_to, stable_id
from operations._easy_read import Line, Section

HTML: Final = "text/html"
LANGUAGE: Final = "en-GB"
_SAFE: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "content-language": LANGUAGE,
}
_STYLE: Final = (
    "body{font:1.25rem/1.7 Verdana,Arial,sans-serif;max-width:34em;margin:2em auto;padding:0 1em;"
    "color:#111;background:#fffdf5}"
    "h1,h2{line-height:1.3}h2{border-top:3px solid #00695c;padding-top:.6em;margin-top:2em}"
    "p{margin:.6em 0}blockquote{margin:.4em 0 1em;padding:.4em 1em;border-left:.3em solid #00695c;"
    "background:#fff;white-space:pre-line}"
    "@media print{body{font-size:14pt;margin:0;background:#fff}"
    "h2,blockquote,p{break-inside:avoid}h2{break-after:avoid}@page{margin:2cm}}"
)


def page(title: str, parts: Sequence[Section]) -> Written:
    """One page of HTML in UTF-8."""
    head, *rest = parts
    body = f"<h1>{escape(head.title)}</h1>{_lines(head.lines)}"
    body += "".join(f"<h2>{escape(one.title)}</h2>{_lines(one.lines)}" for one in rest)
    whole = (
        f'<!DOCTYPE html><html lang="{LANGUAGE}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>"
    )
    return Written(f"{HTML}; charset=utf-8", whole.encode(), _SAFE)


def _lines(lines: Sequence[Line]) -> str:
    return "".join(map(_line, lines))


def _line(line: Line) -> str:
    own = f"<p>{escape(line.own)}</p>" if line.own else ""
    return own + (f"<blockquote>{escape(line.quoted)}</blockquote>" if line.quoted else "")


def document(
    title: str, parts: Sequence[Section], plan: Resource, patient: Resource, now: int, base: str
) -> Resource:
    """A document Bundle: the Composition, then whose plan it is."""
    time = instant(now)
    version = plan.get("meta", {}).get("versionId", "")
    name = stable_id("easy-read", reference_to(plan), version, time)
    composition: Resource = {
        "resourceType": "Composition",
        "id": name,
        "language": LANGUAGE,
        "status": "final",
        "type": {"text": "Easy read plan"},
        "subject": {"reference": reference_to(patient)},
        "date": time,
        "author": [{"display": "The keyworking service"}],
        "title": title,
        "section": [_section(one) for one in parts],
    }
    return {
        "resourceType": "Bundle",
        "language": LANGUAGE,
        "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{name}"},
        "type": "document",
        "timestamp": time,
        "entry": [
            {"fullUrl": f"{base}/Composition/{name}", "resource": composition},
            {"fullUrl": f"{base}/{reference_to(patient)}", "resource": patient},
        ],
    }


def _section(part: Section) -> Resource:
    opening = f'<div xmlns="http://www.w3.org/1999/xhtml" lang="{LANGUAGE}" xml:lang="{LANGUAGE}">'
    text = {"status": "generated", "div": f"{opening}{_lines(part.lines)}</div>"}
    return {"title": part.title, "text": text}
