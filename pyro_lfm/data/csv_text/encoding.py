"""Bytes as text and back, bit for bit: the encoding of a CSV file, for ``CsvFile``."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from pyro_lfm.errors import DataError

# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What other formats begin with, and what to do with them.
_FORMATS = (
    (b"PK\x03\x04", "an Excel workbook or a ZIP archive", "save the sheet as CSV, or unpack the archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as CSV"),
    (b"\x1f\x8b", "compressed by gzip", "let its name end in .csv.gz"),
    (b"PAR1", "a Parquet file", "let its name end in .parquet"),
    (b"\x89HDF", "an HDF5 file", "let its name end in .h5ad if it is an AnnData"),
    (b"\x93NUMPY", "an array of NumPy", "let its name end in .npy"),
    (b"%PDF", "a PDF", "export the table as CSV"),
    (b"\x89PNG", "a picture", "give the folder of pictures"),
    (b"\xff\xd8\xff", "a picture", "give the folder of pictures"),
)
# Bytes that no text has, and the number of first bytes that are searched for them.
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\x0b\x0c\x1a\x1b"))
_FIRST = 2**16


@dataclass(frozen=True)
class Encoding:
    """The encoding of a text: the name by which Python knows it, and the byte order mark before it, if any."""

    name: str
    mark: bytes = b""

    def encode(self, text: str) -> bytes:
        """The bytes of a text.

        Raises:
            DataError: a character that the encoding lacks.
        """
        try:
            return self.mark + text.encode(self.name)
        except UnicodeEncodeError as error:
            raise DataError(
                f"the file is encoded as {self.name}, which has no {text[error.start]!r}: save the file as UTF-8"
            ) from None


def decoded(content: bytes, what: str, name: str | None = None) -> tuple[str, Encoding]:
    """The text of a file and its encoding: by its byte order mark, else UTF-8, else Windows-1252, else Latin-1.

    Args:
        content: the bytes of the file.
        what: the file, for messages.
        name: the encoding, if it is known.

    Raises:
        DataError: the bytes are no text, or not in the encoding that is given.

    >>> decoded("é".encode("latin-1"), "f.csv")
    ('é', Encoding(name='cp1252', mark=b''))
    """
    marks = [(mark, known) for mark, known in _MARKS if content.startswith(mark)]
    mark, by_mark = marks[0] if marks else (b"", None)
    if name is not None:
        # The codecs "utf-16" and "utf-8-sig" take the mark themselves, and lose its bytes.
        chosen = by_mark if by_mark and _family(name) == _family(by_mark) else _known(name)
        return _strict(content, Encoding(chosen, mark if chosen == by_mark else b""), what)
    if by_mark is not None:
        return _strict(content, Encoding(by_mark, mark), what)
    wide = _wide(content)
    if wide is not None:
        return _strict(content, Encoding(wide), what)
    _check_is_text(content, what)
    for candidate in ("utf-8", "cp1252", "latin-1"):
        try:
            return content.decode(candidate), Encoding(candidate)
        except UnicodeDecodeError:
            continue
    raise AssertionError("Latin-1 has every byte")


def _strict(content: bytes, encoding: Encoding, what: str) -> tuple[str, Encoding]:
    try:
        text = content[len(encoding.mark) :].decode(encoding.name)
    except UnicodeDecodeError as error:
        line = content[: len(encoding.mark) + error.start].count(b"\n") + 1
        raise DataError(
            f"{what} is no text in {encoding.name}: line {line} has bytes outside of this encoding. Save the file as UTF-8"
        ) from None
    if "\0" in text:
        raise DataError(f"{what} is no text: it has null characters. Give a file of text")
    return text, encoding


def _known(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise DataError(
            f"encoding must be one that Python knows, such as utf-8, utf-16 or cp1252; got {name!r}"
        ) from None


def _family(name: str) -> str:
    """The encoding without its byte order and its mark: utf-16-le and utf-16 are one."""
    return _known(name).removesuffix("-sig").removesuffix("-le").removesuffix("-be")


def _wide(content: bytes) -> str | None:
    """UTF-16 without a mark: of a text in Latin letters every second byte is zero."""
    first = content[: _FIRST - _FIRST % 2]
    if len(first) < 4 or len(content) % 2:
        return None
    half = len(first) // 2
    even, odd = first[0::2].count(0), first[1::2].count(0)
    if odd > 0.7 * half and even == 0:
        return "utf-16-le"
    return "utf-16-be" if even > 0.7 * half and odd == 0 else None


def _check_is_text(content: bytes, what: str) -> None:
    for start, kind, remedy in _FORMATS:
        if content.startswith(start):
            raise DataError(f"{what} must be text; it is {kind}: {remedy}")
    first = content[:_FIRST]
    controls = len(first) - len(first.translate(None, _CONTROLS))
    if b"\0" in content or controls > 0.01 * len(first):
        raise DataError(
            f"{what} must be text; it is binary: open it with the program that wrote it, and save the table as CSV"
        )
