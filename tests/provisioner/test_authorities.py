"""Certificate authorities of the inventory: what is read, and what is refused by name."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.authorities import LARGEST_FILE, read_authorities
from provisioner.errors import ExitCode, UsageError

CASES = Path(__file__).parents[1] / "cases" / "authorities"
COMPANY, SECOND = CASES / "company.pem", CASES / "second.pem"


def read(path: Path, content: bytes) -> dict[str, bytes]:
    path.write_bytes(content)
    return read_authorities([path])


def test_every_certificate_becomes_a_file_named_by_its_hash(tmp_path: Path) -> None:
    found = read(tmp_path / "both.pem", COMPANY.read_bytes() + SECOND.read_bytes())
    assert list(found.values()) == [COMPANY.read_bytes(), SECOND.read_bytes()]
    der = ssl.PEM_cert_to_DER_cert(COMPANY.read_text())
    assert next(iter(found)) == f"rigup-{hashlib.sha256(der).hexdigest()[:16]}.crt"


def test_text_around_a_certificate_stays_here(tmp_path: Path) -> None:
    noisy = b"Issuer: \x1b[31m\r\n" + COMPANY.read_bytes().replace(b"\n", b"\r\n") + b"\ntrailer\n"
    assert list(read(tmp_path / "noisy.pem", noisy).values()) == [COMPANY.read_bytes()]


def test_the_same_certificate_twice_is_one() -> None:
    assert len(read_authorities([COMPANY, COMPANY, SECOND])) == 2


PEM = COMPANY.read_bytes()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is no file of PEM certificates"),
        (ssl.PEM_cert_to_DER_cert(PEM.decode()), "is no file of PEM certificates"),
        (PEM[:200], "is no file of PEM certificates"),
        (PEM.replace(b"END CERT", b"END XERT"), "is no file of PEM certificates"),
        (PEM + b"-----BEGIN CERTIFICATE REQUEST-----\n", "is no file of PEM certificates"),
        (PEM + b"-----BEGIN EC PRIVATE KEY-----\n", "holds a private key"),
        (PEM * 21, "holds 21 certificates"),
        (b"\n" * (LARGEST_FILE + 1), "is larger than 1 MiB"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "holds a damaged certificate",
        ),
        (
            b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n",
            "holds a damaged certificate",
        ),
    ],
)
def test_what_is_no_certificate_is_refused_by_name(
    tmp_path: Path, content: bytes, what: str
) -> None:
    with pytest.raises(UsageError, match=what) as error:
        read(tmp_path / "ca.pem", content)
    assert "ca.pem" in error.value.message
    assert error.value.remedy
    assert error.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("name", ["absent.pem", ".", "a\0b"])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_authorities([tmp_path / name])


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, len(PEM)), junk=st.binary(max_size=30))
def test_damaged_files_are_certificates_or_refused(
    cut: int, junk: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.pem"
    try:
        found = read(path, PEM[:cut] + junk + PEM[cut:])
    except UsageError:
        return
    for text in found.values():
        assert text.startswith(b"-----BEGIN CERTIFICATE-----\n")
        assert text.count(b"-----BEGIN") == 1
