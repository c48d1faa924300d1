"""The inventory's mirrors as programs read them."""

from __future__ import annotations

import configparser
from pathlib import Path

from inventory import Mirrors
from provisioner.mirrors import (
    CA_BUNDLE,
    bundle_environment,
    environment,
    pip_conf,
    pip_settings,
    proxy_environment,
)

PROXY = "http://proxy.example:3128"


def test_nothing_set_means_nothing_said() -> None:
    assert environment(Mirrors()) == {}
    assert bundle_environment(Mirrors()) == {}
    assert pip_settings(Mirrors()) == {}


def test_a_proxy_in_small_and_capitals_never_for_the_host_itself() -> None:
    found = proxy_environment(Mirrors(http_proxy=PROXY))
    assert {name for name, value in found.items() if value == PROXY} == {
        *("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    }
    assert found["no_proxy"] == found["NO_PROXY"] == "localhost,127.0.0.1,::1"


def test_everything_for_jobs_and_containers() -> None:
    mirrors = Mirrors(python_index="https://m.example/simple", model_hub="https://hub.example")
    assert environment(mirrors) == {
        "PIP_INDEX_URL": "https://m.example/simple",
        "HF_ENDPOINT": "https://hub.example",
    }


def test_an_index_without_tls_is_trusted_by_name() -> None:
    mirrors = Mirrors(python_index="http://m.example:8080/simple")
    assert environment(mirrors)["PIP_TRUSTED_HOST"] == "m.example:8080"


def test_own_authorities_reach_programs_that_bring_their_own_list() -> None:
    found = bundle_environment(Mirrors(ca_certificates=(Path("a.pem"),)))
    assert set(found.values()) == {str(CA_BUNDLE)}
    assert "REQUESTS_CA_BUNDLE" in found


def test_pip_reads_back_what_was_written() -> None:
    parser = configparser.RawConfigParser()
    wanted = pip_settings(Mirrors(python_index="http://m.example/a%20b/simple?x=1#y;z"))
    parser.read_string(pip_conf(wanted))
    assert dict(parser["global"]) == wanted
