"""The inventory's mirrors under the names that programs read: environment variables, pip.conf."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from inventory import Mirrors

CA_BUNDLE = PurePosixPath("/usr/local/share/rigup/ca-bundle.pem")
"""A link to the distribution's own bundle, which lies elsewhere on every family."""

NOT_PROXIED = "localhost,127.0.0.1,::1"
_BUNDLE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT")


def proxy_environment(mirrors: Mirrors) -> dict[str, str]:
    """In small and in capitals: curl reads ``http_proxy`` only small, others only capitals."""
    if mirrors.http_proxy is None:
        return {}
    values = {"http_proxy": mirrors.http_proxy, "https_proxy": mirrors.http_proxy}
    values["no_proxy"] = NOT_PROXIED
    return {**values, **{name.upper(): value for name, value in values.items()}}


def environment(mirrors: Mirrors) -> dict[str, str]:
    """For jobs and containers."""
    pip = {f"PIP_{_variable(key)}": value for key, value in pip_settings(mirrors).items()}
    hub = {"HF_ENDPOINT": mirrors.model_hub} if mirrors.model_hub else {}
    return {**pip, **hub, **proxy_environment(mirrors)}


def bundle_environment(mirrors: Mirrors) -> dict[str, str]:
    """For processes on a provisioned host: Python programs bring their own list of authorities."""
    return dict.fromkeys(_BUNDLE_VARIABLES, str(CA_BUNDLE)) if mirrors.ca_certificates else {}


def pip_settings(mirrors: Mirrors) -> dict[str, str]:
    """Keys of pip.conf's ``[global]``. pip ignores an index without TLS unless it is trusted."""
    if mirrors.python_index is None:
        return {}
    index = urlsplit(mirrors.python_index)
    trusted = {"trusted-host": index.netloc} if index.scheme == "http" else {}
    return {"index-url": mirrors.python_index, **trusted}


def pip_conf(settings: Mapping[str, str]) -> str:
    """pip reads it raw: ``%`` has no meaning there (pip, _internal/configuration.py)."""
    return "".join(["[global]\n", *(f"{key} = {value}\n" for key, value in settings.items())])


def _variable(key: str) -> str:
    return key.upper().replace("-", "_")
