"""Proxy, extra certificate authorities, Python index and model hub, as the inventory has them.

Files that are rigup's own follow the inventory, also when a setting is taken out of it again;
``/etc/pip.conf`` of somebody else is never touched.
"""

from __future__ import annotations

import configparser
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from shlex import quote

from inventory import Host
from provisioner.actions import Action, Run, WriteFile
from provisioner.authorities import read_authorities
from provisioner.command import Command
from provisioner.daemon_json import PATH as DAEMON_JSON
from provisioner.docker_apply import RESTART, may_restart
from provisioner.errors import BlockedError
from provisioner.facts import DOCKER, NETWORK, OS, SOURCES, Facts
from provisioner.facts.docker import DockerFacts
from provisioner.mirrors import CA_BUNDLE, pip_conf, pip_settings, proxy_environment
from provisioner.platforms import platform_of
from provisioner.platforms.keys import FetchKey
from provisioner.steps.base import Change, Outcome, Satisfied, listed
from provisioner.steps.docker_refusals import would_stop
from provisioner.traces import Trace

OURS = "# written by rigup; changes are overwritten\n"
APT_PROXY = PurePosixPath("/etc/apt/apt.conf.d/90rigup-proxy")
DOCKER_PROXY = PurePosixPath("/etc/systemd/system/docker.service.d/rigup-proxy.conf")
PROFILE = PurePosixPath("/etc/profile.d/rigup-network.sh")
PIP_CONF = PurePosixPath("/etc/pip.conf")
VENDORS = ("nvidia", "container_toolkit", "docker", "epel")
"""Names of the repositories that rigup may add (provisioner/data/repositories.yaml)."""

BUNDLES: Mapping[str, str] = {
    "/usr/local/share/ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/source/anchors": "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/trust/anchors": "/var/lib/ca-certificates/ca-bundle.pem",
}
"""Where added authorities lie -> the bundle that is made from them (update-ca-certificates(8),
update-ca-trust(8))."""

LINK = 'mkdir -p -- "$(dirname -- "$2")" && ln -sfn -- "$1" "$2"'

Part = tuple[str, tuple[Action, ...]]


class Network:
    name = "network"

    def check(self, facts: Facts, host: Host) -> Outcome:
        parts = [part for find in PARTS for part in find(facts, host)]
        if parts:
            actions = (action for _, needed in parts for action in needed)
            return Change(listed([reason for reason, _ in parts]), tuple(actions))
        return Satisfied(_described(host))


def _authorities(facts: Facts, host: Host) -> Iterator[Part]:
    wanted = read_authorities(host.mirrors.ca_certificates)
    there = facts[NETWORK].authorities
    if not wanted and not there:
        return
    platform = platform_of(facts[OS])
    directory = platform.authority_directory()
    missing = {
        name: text for name, text in wanted.items() if not there.get(str(directory / name), False)
    }
    if missing:
        reason = f"{len(missing)} certificate authority(s) of the inventory are not trusted"
        yield reason, platform.authority_actions(missing)
    surplus = [path for path in there if PurePosixPath(path).name not in wanted]
    if surplus:
        reason = f"{len(surplus)} certificate authority(s) are no longer in the inventory"
        yield reason, (_removal(*surplus), *platform.authority_actions({}))


def _bundle(facts: Facts, host: Host) -> Iterator[Part]:
    if host.mirrors.ca_certificates:
        bundle = _bundle_of(facts)
        if facts[NETWORK].bundle != bundle:
            link = Command.sh(LINK, bundle, str(CA_BUNDLE), sudo=True)
            trace = Trace("file", str(CA_BUNDLE))
            yield (
                "jobs cannot find the host's certificate authorities",
                (Run(link, f"link {CA_BUNDLE}", traces=(trace,)),),
            )
    elif facts[NETWORK].bundle is not None:
        yield f"{CA_BUNDLE} is no longer needed", (_removal(str(CA_BUNDLE)),)


def _bundle_of(facts: Facts) -> str:
    return BUNDLES[str(platform_of(facts[OS]).authority_directory())]


def _package_manager(facts: Facts, host: Host) -> Iterator[Part]:
    proxy = host.mirrors.http_proxy
    files = platform_of(facts[OS]).proxy_files(proxy) if proxy else {}
    wanted = {str(path): text for path, text in files.items()}
    yield from _files("the package manager's proxy", wanted, [str(APT_PROXY)], facts)


def _docker(facts: Facts, host: Host) -> Iterator[Part]:
    """Docker reads its proxy when it starts. A restart that would stop containers is a person's."""
    wanted = _docker_drop_in(host)
    if not wanted and str(DOCKER_PROXY) not in facts[NETWORK].files:
        return
    docker = facts[DOCKER]
    _require_no_other_proxy(docker, host)
    changed = list(_files("Docker's proxy", wanted, [str(DOCKER_PROXY)], facts))
    if docker.active and (changed or docker.http_proxy != host.mirrors.http_proxy):
        if not may_restart(docker):
            refusal = would_stop(docker, "Docker's proxy is not as in the inventory")
            raise BlockedError(refusal.reason, remedy=refusal.what_to_do)
        reload = Run(Command.of("systemctl", "daemon-reload", sudo=True))
        changed.append(("Docker must restart for its proxy", (reload, RESTART)))
    yield from changed


def _require_no_other_proxy(docker: DockerFacts, host: Host) -> None:
    """What daemon.json or the command line says wins over the environment (docs: daemon proxy
    configuration), so that no restart would bring the inventory's."""
    wanted = host.mirrors.http_proxy
    proxies = (docker.daemon_json or {}).get("proxies")
    by_file = isinstance(proxies, dict) and proxies.get("http-proxy") not in (None, wanted)
    by_flag = "http-proxy" in docker.flags
    if wanted in (None, docker.http_proxy) or not (by_file or by_flag):
        return
    place = "its command line" if by_flag else f"proxies in {DAEMON_JSON}"
    raise BlockedError(
        f"Docker's proxy is set by {place}, to another one than the inventory's {wanted}",
        remedy="take it out there, or change mirrors.http_proxy in the inventory",
    )


def _docker_drop_in(host: Host) -> dict[str, str]:
    """``%`` begins a specifier (systemd.unit(5)); the inventory's URLs hold no quotes."""
    variables = proxy_environment(host.mirrors)
    lines = [
        f'Environment="{name}={value.replace("%", "%%")}"'
        for name, value in variables.items()
        if name.isupper()
    ]
    return {str(DOCKER_PROXY): OURS + "\n".join(["[Service]", *lines]) + "\n"} if lines else {}


def _pip(facts: Facts, host: Host) -> Iterator[Part]:
    wanted = _pip_settings(facts, host)
    present = facts[NETWORK].files.get(str(PIP_CONF))
    if present is None or present.startswith(OURS):
        text = {str(PIP_CONF): OURS + pip_conf(wanted)} if wanted else {}
        yield from _files("pip's settings", text, [str(PIP_CONF)], facts)
    elif not pip_settings(host.mirrors).items() <= _global_settings(present).items():
        lines = ", ".join(f"{key} = {value}" for key, value in wanted.items())
        raise BlockedError(
            f"{PIP_CONF} is not rigup's and lacks what the inventory wants",
            remedy=f"put this into its [global] section, or move the file away: {lines}",
        )


def _pip_settings(facts: Facts, host: Host) -> dict[str, str]:
    settings = pip_settings(host.mirrors)
    if host.mirrors.ca_certificates:
        settings["cert"] = _bundle_of(facts)
    return settings


def _global_settings(text: str) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return {}
    return dict(parser["global"]) if parser.has_section("global") else {}


def _profile(facts: Facts, host: Host) -> Iterator[Part]:
    """For people who log in; jobs and containers get the same from their own settings."""
    hub = {"HF_ENDPOINT": host.mirrors.model_hub} if host.mirrors.model_hub else {}
    variables = {**hub, **proxy_environment(host.mirrors)}
    lines = "".join(f"export {name}={quote(value)}\n" for name, value in variables.items())
    wanted = {str(PROFILE): OURS + lines} if lines else {}
    yield from _files("the login shells' proxy and model hub", wanted, [str(PROFILE)], facts)


def _signing_keys(facts: Facts, host: Host) -> Iterator[Part]:
    """Whatever else lies in a key file that a repository names is trusted too: it is replaced, also
    where nothing will be installed."""
    stems = {PurePosixPath(path).stem for path in facts[SOURCES].files}
    for name in VENDORS:
        if f"rigup-{name}" not in stems:
            continue
        with suppress(BlockedError):  # no key is pinned any more: told where it is needed
            platform = platform_of(facts[OS])
            source = platform.vendor_source(name, facts[OS], host)
            actions = platform.source_actions(source, facts)
            if any(isinstance(action, FetchKey) for action in actions):
                yield f"the signing key of {name} is not the pinned one alone", actions


PARTS: tuple[Callable[[Facts, Host], Iterator[Part]], ...] = (
    *(_authorities, _bundle, _package_manager, _docker, _pip, _profile, _signing_keys),
)


def _files(what: str, wanted: Mapping[str, str], stale: list[str], facts: Facts) -> Iterator[Part]:
    """Write what differs; remove what is rigup's and no longer wanted."""
    present = facts[NETWORK].files
    writes = [
        WriteFile(PurePosixPath(path), text)
        for path, text in wanted.items()
        if present.get(path) != text
    ]
    if writes:
        yield f"{what} is not as in the inventory", tuple(writes)
    surplus = [path for path in stale if path in present and path not in wanted]
    if surplus:
        yield f"{what} is no longer in the inventory", (_removal(*surplus),)


def _removal(*paths: str) -> Run:
    return Run(Command.of("rm", "-f", "--", *paths, sudo=True), f"remove {' '.join(paths)}")


def _described(host: Host) -> str:
    mirrors = host.mirrors
    settings = {
        "proxy": mirrors.http_proxy,
        "files of own authorities:": len(mirrors.ca_certificates),
        "Python index": mirrors.python_index,
        "model hub": mirrors.model_hub,
    }
    found = [f"{what} {value}" for what, value in settings.items() if value]
    return listed(found) or "no proxy, authorities or indexes of its own"
