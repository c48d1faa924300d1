"""OpenPGP signatures of version 4, and the check that a key made one (RFC 4880, section 5.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

HASHES: Mapping[int, hashes.HashAlgorithm] = {
    2: hashes.SHA1(),  # noqa: S303
    8: hashes.SHA256(),
    9: hashes.SHA384(),
    10: hashes.SHA512(),
    11: hashes.SHA224(),
}
"""By OpenPGP's number (section 9.4). SHA-1: old vendor keys signed themselves with it. A mirror
would need a second preimage to make use of that; nobody can find one."""

CURVES: Mapping[bytes, ec.EllipticCurve] = {
    bytes.fromhex("2a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("2b81040022"): ec.SECP384R1(),
    bytes.fromhex("2b81040023"): ec.SECP521R1(),
}
ED25519_OID = bytes.fromhex("2b06010401da470f01")
ISSUER, EMBEDDED_SIGNATURE, ISSUER_FINGERPRINT = 16, 32, 33
"""Types of the subpackets that are kept although no signature covers them: who signed, and a
signing subkey's own consent (section 5.2.3.1)."""

Check = Callable[[tuple[bytes, ...], bytes, hashes.HashAlgorithm], None]
"""Takes a signature's numbers, the digest and its algorithm; raises for a bad signature."""


@dataclass(frozen=True)
class Signature:
    """``covered``: the bytes from the version to the end of the hashed subpackets. ``numbers``: the
    multiprecision integers, without leading zeros."""

    type: int
    algorithm: int
    hash: int
    covered: bytes
    unhashed: bytes
    check: bytes
    numbers: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        unhashed = len(self.unhashed).to_bytes(2, "big") + self.unhashed
        numbers = b"".join(_mpi(number) for number in self.numbers)
        return self.covered + unhashed + self.check + numbers


def parse_signature(body: bytes, *, embedded: bool = False) -> Signature:
    """``embedded``: it is part of another signature and has none inside. Raises ValueError for
    anything but exactly one signature of version 4."""
    if body[:1] != b"\x04":
        raise ValueError("an OpenPGP signature of another version than 4")
    hashed_end = 6 + int.from_bytes(body[4:6], "big")
    unhashed_start = hashed_end + 2
    unhashed_end = unhashed_start + int.from_bytes(body[hashed_end:unhashed_start], "big")
    if unhashed_end + 2 > len(body):
        raise ValueError("an OpenPGP signature that ends too early")
    list(_subpackets(body[6:hashed_end]))
    return Signature(
        type=body[1],
        algorithm=body[2],
        hash=body[3],
        covered=body[:hashed_end],
        unhashed=_known_unhashed(body[unhashed_start:unhashed_end], embedded),
        check=body[unhashed_end : unhashed_end + 2],
        numbers=_mpis(body[unhashed_end + 2 :]),
    )


class Verifier:
    """Tells the signatures of one primary key from all others."""

    def __init__(self, primary: bytes) -> None:
        """``primary``: the body of its packet. Raises ValueError for a key that cannot sign, or is
        of an algorithm that is not known here."""
        self._algorithms, self._check = _check_of(primary)

    def good(self, signature: Signature, signed: bytes) -> bool:
        """``signed``: what the signature is over (RFC 4880, section 5.2.4)."""
        algorithm = HASHES.get(signature.hash)
        if algorithm is None or signature.algorithm not in self._algorithms:
            return False
        trailer = b"\x04\xff" + len(signature.covered).to_bytes(4, "big")
        digest = hashlib.new(algorithm.name, signed, usedforsecurity=False)
        digest.update(signature.covered + trailer)
        if digest.digest()[:2] != signature.check:
            return False
        try:
            self._check(signature.numbers, digest.digest(), algorithm)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError, OverflowError):
            return False
        return True


def _check_of(primary: bytes) -> tuple[tuple[int, ...], Check]:
    """The numbers of the key's algorithm (section 9.1) and its check."""
    algorithm, material = primary[5:6], primary[6:]
    try:
        if algorithm in (b"\x01", b"\x03"):
            return (1, 3), _rsa(*_mpis(material))
        if algorithm == b"\x11":
            return (17,), _dsa(*_mpis(material))
        if algorithm == b"\x13":
            return (19,), _ecdsa(*_curve_and_point(material))
        if algorithm == b"\x16":
            return (22,), _eddsa(*_curve_and_point(material))
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"an OpenPGP key that cannot be used: {error}") from error
    number = algorithm[0] if algorithm else "?"
    raise ValueError(f"an OpenPGP key of algorithm {number}, which is not known here")


def _rsa(modulus: bytes, exponent: bytes) -> Check:
    key = rsa.RSAPublicNumbers(_number(exponent), _number(modulus)).public_key()

    def check(numbers: tuple[bytes, ...], digest: bytes, algorithm: hashes.HashAlgorithm) -> None:
        [signature] = numbers
        padded = signature.rjust((key.key_size + 7) // 8, b"\0")
        key.verify(padded, digest, padding.PKCS1v15(), Prehashed(algorithm))

    return check


def _dsa(p: bytes, q: bytes, g: bytes, y: bytes) -> Check:
    parameters = dsa.DSAParameterNumbers(_number(p), _number(q), _number(g))
    key = dsa.DSAPublicNumbers(_number(y), parameters).public_key()

    def check(numbers: tuple[bytes, ...], digest: bytes, algorithm: hashes.HashAlgorithm) -> None:
        key.verify(_dss(numbers), digest, Prehashed(algorithm))

    return check


def _ecdsa(curve: bytes, point: bytes) -> Check:
    if curve not in CURVES:
        raise ValueError("an OpenPGP key on a curve that is not known here")
    key = ec.EllipticCurvePublicKey.from_encoded_point(CURVES[curve], point)

    def check(numbers: tuple[bytes, ...], digest: bytes, algorithm: hashes.HashAlgorithm) -> None:
        key.verify(_dss(numbers), digest, ec.ECDSA(Prehashed(algorithm)))

    return check


def _eddsa(curve: bytes, point: bytes) -> Check:
    if curve != ED25519_OID or len(point) != 33 or point[0] != 0x40:
        raise ValueError("an OpenPGP key on a curve that is not known here")
    key = ed25519.Ed25519PublicKey.from_public_bytes(point[1:])

    def check(numbers: tuple[bytes, ...], digest: bytes, algorithm: hashes.HashAlgorithm) -> None:
        r, s = numbers
        key.verify(r.rjust(32, b"\0") + s.rjust(32, b"\0"), digest)

    return check


def _dss(numbers: tuple[bytes, ...]) -> bytes:
    r, s = numbers
    return encode_dss_signature(_number(r), _number(s))


def _number(mpi: bytes) -> int:
    return int.from_bytes(mpi, "big")


def _curve_and_point(material: bytes) -> tuple[bytes, bytes]:
    length = material[0] if material else 0
    [point] = _mpis(material[1 + length :])
    return material[1 : 1 + length], point


def _mpis(data: bytes) -> tuple[bytes, ...]:
    """Multiprecision integers (section 3.2), all of ``data``."""
    numbers, position = [], 0
    while position < len(data):
        start = position + 2
        end = start + (int.from_bytes(data[position:start], "big") + 7) // 8
        if start > len(data) or end > len(data):
            raise ValueError("an OpenPGP number that ends too early")
        numbers.append(data[start:end].lstrip(b"\0"))
        position = end
    return tuple(numbers)


def _mpi(number: bytes) -> bytes:
    return int.from_bytes(number, "big").bit_length().to_bytes(2, "big") + number


def _subpackets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type (without the critical bit) and content of each subpacket (section 5.2.3.1)."""
    position = 0
    while position < len(data):
        octets, length = _subpacket_length(data[position : position + 5] + bytes(5))
        start = position + octets
        position = start + length
        if not length or position > len(data):
            raise ValueError("an OpenPGP signature subpacket that ends too early")
        yield data[start] & 0x7F, data[start + 1 : position]


def _subpacket_length(header: bytes) -> tuple[int, int]:
    if header[0] < 192:
        return 1, header[0]
    if header[0] < 255:
        return 2, ((header[0] - 192) << 8) + header[1] + 192
    return 5, int.from_bytes(header[1:5], "big")


def _subpacket(kind: int, content: bytes) -> bytes:
    length = len(content) + 1
    header = bytes([length]) if length < 192 else b"\xff" + length.to_bytes(4, "big")
    return header + bytes([kind]) + content


def _known_unhashed(data: bytes, embedded: bool) -> bytes:
    known = b""
    for kind, content in _subpackets(data):
        if kind in (ISSUER, ISSUER_FINGERPRINT):
            known += _subpacket(kind, content)
        elif kind == EMBEDDED_SIGNATURE and not embedded:
            known += _subpacket(kind, parse_signature(content, embedded=True).to_bytes())
    return known
