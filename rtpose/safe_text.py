"""Text that may leave the program: without credentials, and without characters that steer a terminal."""

from __future__ import annotations

import re
import unicodedata

HIDDEN = "..."

_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:/")
_USER_INFO = re.compile(r"(?s):/+.*@")
_QUERY = re.compile(r"(:/[^?#\s!\"']*)[?#][^\s!\"']*")
_BARE_USER_INFO = re.compile(r"[^\s/@]+:[^\s@]*@")
_PROPERTY = re.compile(
    r"(?i)\b([\w-]*(?:user|user-?id|username|passw(?:or)?d|passphrase|pass|pw|token|secret|api[_-]?key|access[_-]?key|auth|signature))"
    r"\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s&;,]+)"
)


def mask_credentials(text: str) -> str:
    """The text without users, passwords and query strings of addresses in it, and without the values of secret properties
    (`password=...`, as GStreamer's elements and query strings have them).

    A password may hold anything, also @, /, spaces and quotes that nobody escaped. So all from the first address up to the last @ goes:
    in a text with several addresses too much is hidden rather than too little.
    """
    if first := _ADDRESS.search(text):
        head, rest = text[: first.end() - 2], text[first.end() - 2 :]
        rest = _USER_INFO.sub(lambda found: "://" if found[0].startswith("://") else ":/", rest, count=1)
        text = head + _QUERY.sub(r"\1", rest)
    text = _BARE_USER_INFO.sub(f"{HIDDEN}@", text)
    return _PROPERTY.sub(rf"\1={HIDDEN}", text)


def printable(text: str) -> str:
    """The text with control characters, such as those that steer a terminal or change the direction of writing, shown as `\\x1b`."""
    return "".join(
        character if character in "\n\t" or unicodedata.category(character) not in _CONTROL else _escaped(character)
        for character in text
    )


_CONTROL = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode's categories of control and format characters, surrogates (bytes of a name that are not UTF-8), line and paragraph separators."""


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def csv_cell(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula: with an apostrophe before what would begin one (OWASP, CSV injection)."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def safe(text: str) -> str:
    """The text as it may be shown, logged and saved."""
    return printable(mask_credentials(text))
