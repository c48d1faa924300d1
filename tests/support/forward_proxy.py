"""A small forward proxy as companies have them: plain HTTP is passed on, and TLS to names that it
knows is opened, read and signed again with an authority of its own.

Run as a program; it listens until it is killed and prints one line when it is ready::

    python forward_proxy.py ADDRESS DIRECTORY NAME=UPSTREAM …

``DIRECTORY/ca.pem`` is its authority, ``DIRECTORY/log`` the requests. ``UPSTREAM`` is where the
plain HTTP server for ``https://NAME/`` listens.
"""

from __future__ import annotations

import datetime
import http.client
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TIMEOUT_S = 60
PASSED_ON = ("Content-Type", "Last-Modified")


class Authority:
    """Makes certificates for names, signed by itself."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _common_name("A company's re-signing authority")
        certificate = self._signed(self._name, self._key, is_authority=True)
        (directory / "ca.pem").write_bytes(certificate)

    def context(self, name: str) -> ssl.SSLContext:
        """What a server needs to be ``name``."""
        key = ec.generate_private_key(ec.SECP256R1())
        file = self._directory / f"{name}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + self._signed(_common_name(name), key, is_authority=False)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_authority: bool
    ) -> bytes:
        now = datetime.datetime.now(datetime.timezone.utc)
        name = subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        )
        if not is_authority:
            names = x509.SubjectAlternativeName([x509.DNSName(str(name))])
            builder = builder.add_extension(names, critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)


class Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: str, directory: Path, upstreams: dict[str, str]) -> None:
        authority = Authority(directory)
        self.upstreams = upstreams
        self.contexts = {name: authority.context(name) for name in upstreams}
        self.log = directory / "log"
        super().__init__((address, 0), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is none of ours."""


class Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT_S
    opened: str | None = None

    def do_CONNECT(self) -> None:
        name = self.path.rpartition(":")[0]
        self._note("CONNECT", name)
        if name not in self.server.contexts:
            self.send_error(403, "not through this proxy")
            return
        self.send_response_only(200, "Connection established")
        self.end_headers()
        self.connection = self.server.contexts[name].wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)  # type: ignore[assignment]
        self.opened = name

    def do_GET(self) -> None:
        if self.opened is not None:
            self._note("GET", f"https://{self.opened}{self.path}")
            self._fetch(self.server.upstreams[self.opened], self.path)
        else:
            parts = urlsplit(self.path)
            self._note("GET", self.path)
            self._fetch(parts.netloc, parts._replace(scheme="", netloc="").geturl())

    def _fetch(self, upstream: str, path: str) -> None:
        connection = http.client.HTTPConnection(upstream, timeout=TIMEOUT_S)
        try:
            connection.request("GET", path, headers={"Host": upstream})
            self._answer(connection.getresponse())
        except OSError as error:
            self.send_error(502, str(error))
        finally:
            connection.close()

    def _answer(self, answer: http.client.HTTPResponse) -> None:
        body = answer.read()
        self.send_response_only(answer.status, answer.reason)
        for name in PASSED_ON:
            if value := answer.getheader(name):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _note(self, verb: str, what: str) -> None:
        with self.server.log.open("a") as log:
            log.write(f"{verb} {what}\n")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def main() -> None:
    address, directory, *names = sys.argv[1:]
    upstreams = dict(name.split("=", 1) for name in names)
    proxy = Proxy(address, Path(directory), upstreams)
    print(proxy.server_address[1], flush=True)
    proxy.serve_forever()


if __name__ == "__main__":
    main()
