"""Credentials and control characters stay out of everything that rtpose says and saves."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpose.errors import EndedEarly, InputError, RtposeError, StageError
from rtpose.safe_text import csv_cell, mask_credentials, printable, safe

SECRET = st.text(st.characters(exclude_categories=("Cs",)), min_size=4).filter(lambda text: len(set(text)) > 2)
HOST = st.from_regex(r"[a-z]{1,8}(\.[a-z]{2,5})?(:[1-9][0-9]{1,3})?", fullmatch=True)


@given(
    SECRET,
    HOST,
    st.sampled_from(("rtsp://", "http://", "rtsp:/", "srt://")),
    st.sampled_from(("", "no such file: ", "cannot open ")),
)
def test_no_password_is_said(password: str, host: str, scheme: str, before: str) -> None:
    shown = mask_credentials(f"{before}{scheme}viewer:{password}@{host}/live")
    assert shown == f"{before}{scheme}{host}/live"


@given(st.text(st.characters(categories=("L", "N")), min_size=4), HOST)
def test_no_token_is_said(token: str, host: str) -> None:
    assert token not in mask_credentials(f"http://{host}/live?token={token}").replace(host, "")
    assert mask_credentials(f"http://{host}/live?token={token}: refused").startswith(f"http://{host}/live")


@pytest.mark.parametrize("name", ["user-pw", "password", "token", "api_key", "passphrase", "user-id"])
def test_secret_properties_of_a_pipeline(name: str) -> None:
    assert "hunter2" not in mask_credentials(f"rtspsrc {name}=hunter2 ! decodebin")
    assert "hunter 2" not in mask_credentials(f'rtspsrc {name}="hunter 2" ! decodebin')


@pytest.mark.parametrize(
    "text", ["match.mp4", "/clips/a@b.mp4", "--start 0:12:30", "unknown network 'x': keypoints=posenet", "3x2", "C:/clips/a.mp4"]
)
def test_ordinary_text_stays(text: str) -> None:
    assert safe(text) == text


@given(st.text())
def test_no_control_character_reaches_the_terminal(text: str) -> None:
    kinds = {unicodedata.category(character) for character in printable(text) if character not in "\n\t"}
    assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    printable(text).encode()  # surrogates of names that are not UTF-8 could not be written


@given(st.text())
def test_plain_text_is_as_it_was(text: str) -> None:
    plain = "".join(character for character in text if character.isprintable())
    assert printable(plain) == plain


@pytest.mark.parametrize("error", [RtposeError, InputError, EndedEarly, lambda text: StageError("source", OSError(text))])
def test_errors_say_no_secret(error: type[RtposeError]) -> None:
    said = str(error("cannot open rtsp://me:geheim!'x@camera/1\x1b[2J"))
    assert "geheim" not in said
    assert "\x1b" not in said
    assert "rtsp://camera/1" in said


@given(st.text(min_size=1))
def test_no_cell_is_a_formula(text: str) -> None:
    assert csv_cell(text)[0] not in "=+-@\t\r"
    assert io.StringIO(csv_cell(text), newline="").getvalue().endswith(text)
