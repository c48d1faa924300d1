"""A container registry with one image of one small layer, for pulls only, in plain HTTP."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class StaticRegistry:
    """``address``: 127.0.0.1:PORT. Each architecture's image holds one file; with one architecture
    there is no list."""

    def __init__(self, *architectures: str, layer_bytes: int = 2048) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.layer_sizes: dict[str, int] = {}
        entries = [self._add_image(name, layer_bytes) for name in architectures]
        top = entries[0]["digest"]
        if len(entries) > 1:
            listed = {"schemaVersion": 2, "mediaType": MANIFEST_LIST, "manifests": entries}
            top = self._add_manifest(MANIFEST_LIST, listed)["digest"]
        self.manifests["1"] = self.manifests[top]
        self.address = ""

    def reference(self, name: str = "team/image") -> str:
        return f"{self.address}/{name}:1"

    def _add_image(self, architecture: str, layer_bytes: int) -> dict[str, Any]:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            entry = tarfile.TarInfo("content")
            entry.size = layer_bytes
            content = hashlib.sha256(architecture.encode()).digest() * (layer_bytes // 32)
            archive.addfile(entry, io.BytesIO(content))
        raw = stream.getvalue()
        layer = gzip.compress(raw, mtime=0)
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/content"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(raw)]},
        }
        self.layer_sizes[architecture] = len(layer)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._add_blob(CONFIG, json.dumps(config).encode()),
            "layers": [self._add_blob(LAYER, layer)],
        }
        platform = {"architecture": architecture, "os": "linux"}
        return {**self._add_manifest(MANIFEST, manifest), "platform": platform}

    def _add_blob(self, kind: str, data: bytes) -> dict[str, Any]:
        self.blobs[_digest(data)] = data
        return {"mediaType": kind, "size": len(data), "digest": _digest(data)}

    def _add_manifest(self, kind: str, manifest: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(manifest).encode()
        self.manifests[_digest(data)] = (kind, data)
        return {"mediaType": kind, "size": len(data), "digest": _digest(data)}


@contextmanager
def serving(registry: StaticRegistry) -> Iterator[StaticRegistry]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        default_request_version = "HTTP/1.1"  # so that who tries TLS is answered in HTTP

        def do_GET(self) -> None:
            kind, data = self._find()
            self.send_response(200 if data is not None else 404)
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data or b"")))
            if data is not None:
                self.send_header("Docker-Content-Digest", _digest(data))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data or b"")

        do_HEAD = do_GET  # noqa: N815 (the base class's names)

        def _find(self) -> tuple[str, bytes | None]:
            if self.path == "/v2/":
                return "application/json", b"{}"
            name = self.path.rpartition("/")[2]
            if "/manifests/" in self.path:
                return registry.manifests.get(name, ("text/plain", None))
            return "application/octet-stream", registry.blobs.get(name)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
