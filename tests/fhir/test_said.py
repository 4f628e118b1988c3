"""What counts as words where a rule asks for some."""

import pytest

from fhir_server.fhir.said import said


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " \t\r\n ",
        "\u00a0\u2003\u3000",  # spaces of other widths
        "\u200b\u200d\u2060\ufeff\u00ad",  # of no width
        "\u3164\u115f\u2800",  # letters and signs that show nothing
        "\u0301\u202e",  # an accent and a direction for no letter
        "-- ... !?",
    ],
)
def test_blanks_and_what_cannot_be_seen_say_nothing(text: str | None) -> None:
    assert said(text) == ""


def test_words_are_told_on_one_line_without_what_cannot_be_seen() -> None:
    assert said("  Mum\u00a0rang:\n is\u200b  she \u202eat home? ") == "Mum rang: is she at home?"
    assert said("Zoë 心配 9") == "Zoë 心配 9"
