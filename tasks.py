"""`invoke --list` shows what there is; `rigup` is the same program outside a checkout.

Thin on purpose: parse, call, print. Exit codes: 0 done, 1 a host or job failed, 2 usage or
inventory error, 3 blocked or waiting for a person.
"""

from __future__ import annotations

import functools
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit, ParseError
from invoke.program import Program
from invoke.tasks import task

from inventory import Host, Inventory, InventoryError, find_inventory, load_inventory
from provisioner import arguments, outcome, show, show_hosts, terminal
from provisioner.errors import ExitCode, RigupError, UsageError
from provisioner.home import rigup_home
from provisioner.lazy import LazyModule

if TYPE_CHECKING:
    from provisioner import facts_report, lab, provisioning, show_code, trust
    from provisioner import jobs as job_facade
    from provisioner import pull as pulling
    from provisioner import uninstall as removing
    from provisioner.agent import patient
    from provisioner.agent.client import AgentClient
    from provisioner.containers import facade, services, ssh_fragment, tunnel
    from provisioner.containers import on_hosts as containers
    from provisioner.doctor import captured, examine
    from provisioner.doctor import report as doctor_report
    from provisioner.report import HostReport
    from provisioner.train import placement, submission
    from provisioner.train import request as requests
    from provisioner.train import view as train_view
    from remote_agent.protocol.job import JobRecord
else:  # no command needs all of them
    captured = LazyModule("provisioner.doctor.captured")
    containers = LazyModule("provisioner.containers.on_hosts")
    doctor_report = LazyModule("provisioner.doctor.report")
    examine = LazyModule("provisioner.doctor.examine")
    facade = LazyModule("provisioner.containers.facade")
    facts_report = LazyModule("provisioner.facts_report")
    job_facade = LazyModule("provisioner.jobs")
    lab = LazyModule("provisioner.lab")
    provisioning = LazyModule("provisioner.provisioning")
    placement = LazyModule("provisioner.train.placement")
    patient = LazyModule("provisioner.agent.patient")
    pulling = LazyModule("provisioner.pull")
    removing = LazyModule("provisioner.uninstall")
    requests = LazyModule("provisioner.train.request")
    show_code = LazyModule("provisioner.show_code")
    submission = LazyModule("provisioner.train.submission")
    train_view = LazyModule("provisioner.train.view")
    services = LazyModule("provisioner.containers.services")
    ssh_fragment = LazyModule("provisioner.containers.ssh_fragment")
    trust = LazyModule("provisioner.trust")
    tunnel = LazyModule("provisioner.containers.tunnel")

Text = str | None

PULL_ATTEMPTS = 6
"""In a row without an answer; the pauses between them add up to 15 s."""

CHECKOUT_EXAMPLES = Path(__file__).resolve().parent / "examples"
INSTALLED_EXAMPLES = Path(sys.prefix) / "share" / "rigup" / "examples"
EXAMPLES = CHECKOUT_EXAMPLES if CHECKOUT_EXAMPLES.is_dir() else INSTALLED_EXAMPLES

HOSTS_HELP = {
    "host": "host names, separated by commas",
    "group": "a group of the inventory",
    "all": "every host of the inventory",
    "inventory": "inventory file (default, the first there is: $RIGUP_INVENTORY, "
    "inventory/hosts.yaml, ~/.rigup/hosts.yaml, the practice hosts')",
}
JSON_HELP = {"json": "print JSON"}
SUDO_HELP = {
    "ask-sudo-password": "prompt for the sudo password",
    "sudo-password-fd": "read the sudo password from this file descriptor",
}


def command(**options: Any) -> Callable[[Callable[..., int | None]], Any]:
    """A task whose return value is the exit code and whose errors are one clear message."""

    def decorate(body: Callable[..., int | None]) -> Any:
        @functools.wraps(body)
        def run(context: Context, *args: Any, **kwargs: Any) -> None:
            try:
                code = body(context, *args, **kwargs)
            except RigupError as error:
                raise _exit(show.error_text(error), int(error.exit_code)) from error
            except InventoryError as error:
                raise _exit(str(error), int(ExitCode.USAGE)) from error
            except KeyboardInterrupt:
                raise Exit("interrupted", code=130) from None
            except BrokenPipeError:
                sys.stderr.close()
                raise Exit(code=1) from None
            except OSError as error:  # the local disk or terminal: full, read-only, not allowed
                raise Exit(str(error), code=int(ExitCode.FAILED)) from error
            if code:
                raise Exit(code=int(code))

        return task(**options)(run)

    return decorate


@command(help={**HOSTS_HELP, "replace": "accept another key than the pinned one", "yes": "pin"})
def trust_hosts(
    context: Context,
    host: Text = None,
    group: Text = None,
    all_: bool = False,
    inventory: Text = None,
    replace: bool = False,
    yes: bool = False,
) -> int:
    """Show a host's key fingerprint, and those of its jump hosts, and pin them."""

    def review(offer: trust.Offer) -> None:
        state = "already pinned" if offer.is_pinned else "not pinned"
        print(f"{offer.host.name}: {offer.key[0]} {offer.fingerprint} ({state})")
        if not offer.is_pinned:
            arguments.confirm(f"pin this key of {offer.host.name}?", yes)
            trust.pin(offer.known_hosts_name, [offer.key])
            print(f"{offer.host.name}: pinned")

    results = trust.settle(_hosts(host, group, all_, inventory), review, replace=replace)
    terminal.complain_all(results)
    return outcome.exit_code_of(results)


@command(
    help={
        **HOSTS_HELP,
        **JSON_HELP,
        **SUDO_HELP,
        "check": "show the plan, change nothing",
        "only": "these steps, separated by commas",
        "skip": "all steps but these, separated by commas",
        "reboot": "reboot a host where only that helps, when nobody uses it; asks first",
        "yes": "do not ask before a reboot",
        "reboot-timeout": "seconds that a host may take to come back (default: 900)",
        "serial": "hosts worked on at once (default: all)",
        "timeout": "seconds for each host, then it is left as it stands (default: no limit)",
        "fail-fast": "start no further host after one that failed or is blocked",
        "verify": "prove again what an earlier run has proven",
    }
)
def provision(
    context: Context,
    host: Text = None,
    group: Text = None,
    all_: bool = False,
    inventory: Text = None,
    check: bool = False,
    only: Text = None,
    skip: Text = None,
    reboot: bool = False,
    yes: bool = False,
    reboot_timeout: str = "900",
    serial: Text = None,
    timeout: Text = None,
    fail_fast: bool = False,
    verify: bool = False,
    json: bool = False,
    ask_sudo_password: bool = False,
    sudo_password_fd: Text = None,
) -> int:
    """Bring hosts to: Docker, NVIDIA driver, container toolkit, agent; and prove it."""
    hosts = _hosts(host, group, all_, inventory)
    wishes = provisioning.Wishes(
        only_check=check,
        only=arguments.names(only, "--only"),
        skip=arguments.names(skip, "--skip"),
        verify_anew=verify,
        pace=arguments.pace(serial, timeout, fail_fast),
        reboots=arguments.reboots(reboot and not check, yes, reboot_timeout),
        sudo_password=arguments.sudo_password(ask_sudo_password, sudo_password_fd),
    )
    reports = provisioning.provision_hosts(
        hosts, terminal.progress_lines(hosts), wishes, tell=terminal.note
    )
    return _host_reports(reports, json)


@command(
    help={
        **HOSTS_HELP,
        **JSON_HELP,
        **SUDO_HELP,
        "check": "show what would be removed, remove nothing",
        "yes": "do not ask",
        "keep": "leave what these steps put there, separated by commas",
    }
)
def uninstall(
    context: Context,
    host: Text = None,
    group: Text = None,
    all_: bool = False,
    inventory: Text = None,
    check: bool = False,
    yes: bool = False,
    keep: Text = None,
    json: bool = False,
    ask_sudo_password: bool = False,
    sudo_password_fd: Text = None,
) -> int:
    """Take back what provisioning put on hosts: recorded things only, data never."""
    hosts = _hosts(host, group, all_, inventory)
    wishes = removing.Removing(
        only_check=check,
        keep=arguments.names(keep, "--keep"),
        agree=arguments.removal_agreement(yes or check),
    )
    reports = removing.uninstall_hosts(
        hosts,
        terminal.progress_lines(hosts),
        wishes,
        sudo_password=arguments.sudo_password(ask_sudo_password, sudo_password_fd),
        tell=terminal.note,
    )
    return _host_reports(reports, json)


@command(help={**HOSTS_HELP, **JSON_HELP, **SUDO_HELP})
def facts(
    context: Context,
    host: Text = None,
    group: Text = None,
    all_: bool = False,
    inventory: Text = None,
    json: bool = False,
    ask_sudo_password: bool = False,
    sudo_password_fd: Text = None,
) -> int:
    """What is true on the hosts, read in one round trip each."""
    password = arguments.sudo_password(ask_sudo_password, sudo_password_fd)
    results = job_facade.on_each(
        _hosts(host, group, all_, inventory),
        lambda one: dict(provisioning.read_facts(one, sudo_password=password).items()),
    )
    if json:
        shown = [
            (one, found if found is None else facts_report.plain(found), error)
            for one, found, error in results
        ]
        print(show.as_json(show.results_json(shown)))
    else:
        for one, found, _ in results:
            if found is not None:
                print(facts_report.text(one.name, found))
    terminal.complain_all(results)
    return outcome.exit_code_of(results)


@command(
    help={
        **HOSTS_HELP,
        **JSON_HELP,
        **SUDO_HELP,
        "log": "no host: name the known failures in this file (- for standard input)",
    }
)
def doctor(
    context: Context,
    host: Text = None,
    group: Text = None,
    all_: bool = False,
    inventory: Text = None,
    log: Text = None,
    json: bool = False,
    ask_sudo_password: bool = False,
    sudo_password_fd: Text = None,
) -> int:
    """What is wrong with hosts, or what a captured log tells: cause, evidence, fix."""
    if log is not None:
        if host or group or all_:
            raise UsageError("--log reads a file and asks no host", remedy="give one of the two")
        return _doctor_log(log, json)
    hosts = _hosts(host, group, all_, inventory)
    password = arguments.sudo_password(ask_sudo_password, sudo_password_fd)
    results = job_facade.on_each(hosts, lambda one: examine.examine_host(one, password))
    if json:
        print(show.as_json(show.results_json(results)))
    else:
        for one, found, _ in results:
            if found is not None:
                print(terminal.as_typed(doctor_report.host_text(one.name, found)))
    terminal.complain_all(results)
    ill = any(found is not None and not found.is_well for _, found, _ in results)
    return outcome.worst_code(
        [outcome.exit_code_of(results), ExitCode.FAILED if ill else ExitCode.DONE]
    )


@command(
    help={
        "script": "looked up here, then in examples/; without it, a whole line follows after --",
        "host": HOSTS_HELP["host"] + " (default: all; the one where it starts soonest is taken)",
        "group": HOSTS_HELP["group"],
        "all": "choose among all hosts (default)",
        "gpus": "how many; all; or which: 0,2 (default: one where the host has any; 0: none)",
        "gpu-type": "part of the GPU's name, such as h100",
        "min-gpu-memory": "of each GPU, in gigabytes: 24g",
        "launcher": "none, torchrun, accelerate (default, auto: torchrun for several GPUs)",
        "runtime": "auto, container or process",
        "follow": "print the log until the job ends",
        "env": "NAME=VALUE, or NAME to take it from here; may be repeated",
        "name": "a name for the job (default: the script's)",
        "dry-run": "show host, image, GPUs, command and the files that would travel; start nothing",
        "inventory": HOSTS_HELP["inventory"],
        **JSON_HELP,
    },
    iterable=["env"],
)
def train(
    context: Context,
    script: Text = None,
    host: Text = None,
    group: Text = None,
    all_: bool = False,
    gpus: Text = None,
    gpu_type: Text = None,
    min_gpu_memory: Text = None,
    launcher: str = "auto",
    runtime: str = "auto",
    follow: bool = False,
    env: Sequence[str] | None = None,  # another default and Invoke would take no list
    name: Text = None,
    dry_run: bool = False,
    inventory: Text = None,
    json: bool = False,
) -> int:
    """Freeze the code, start a detached job on a host, print its id. Script arguments after --"""
    hosts = _hosts(host, group, all_ or not (host or group), inventory)
    words = requests.read_words(script, arguments.after_dashes(sys.argv))
    request = requests.Request(
        script=requests.find_script(words.script, Path.cwd(), EXAMPLES),
        arguments=words.arguments,
        gpus=placement.read_request(words.gpus if gpus is None else gpus, gpu_type, min_gpu_memory),
        launcher=words.launcher if words.launcher and launcher == "auto" else launcher,
        launcher_options=words.launcher_options if launcher == "auto" else (),
        runtime=runtime,
        environment=arguments.environment(env or ()),
        name=name,
    )
    tree = requests.freeze_code(request)
    for line in request.notes:
        terminal.note(line)
    with closing(submission.place(hosts, request, terminal.note, only_plan=dry_run)) as place:
        if dry_run:
            print(train_view.dry_run(place, tree, as_json=json))
            terminal.note("no code and no image was sent, no job started (--dry-run)")
            return ExitCode.DONE
        terminal.note(show_code.summary(tree))
        record = submission.submit(place, tree, terminal.note)
        if json:
            print(show.as_json({"host": place.host.name, "job": record}), flush=True)
        else:
            print(record.job_id, flush=True)
            terminal.note(train_view.started(place, record, follows=follow))
        if follow:
            return _follow(place.host, record.job_id, 0, first=place.client)
        return ExitCode.FAILED if record.state in ("failed", "lost") else ExitCode.DONE


@command(help={**HOSTS_HELP, **JSON_HELP})
def jobs(
    context: Context,
    host: Text = None,
    group: Text = None,
    all_: bool = False,
    inventory: Text = None,
    json: bool = False,
) -> int:
    """Jobs on the hosts (default: all hosts)."""
    hosts = _hosts(host, group, all_ or not (host or group), inventory)
    results = job_facade.on_each(
        hosts, lambda one: job_facade.with_agent(one, lambda client: client.jobs())
    )
    if json:
        print(show.as_json(show.results_json(results)))
    else:
        rows = [(one.name, job) for one, found, _ in results for job in found or ()]
        if rows or any(error is None for _, _, error in results):
            print(show.job_table(rows))
    problems = [*results, *job_facade.damaged_jobs(results)]
    terminal.complain_all(problems)
    return outcome.exit_code_of(problems)


@command(
    help={
        "job": "job id, or the beginning of one",
        "follow": "go on until the job ends",
        "tail": "begin this many bytes before the end",
        "raw": "on a terminal too: every byte as it is, control characters included",
        "host": "where the job is (default: remembered, else asked of every host)",
        "inventory": HOSTS_HELP["inventory"],
    },
    positional=["job"],
)
def logs(
    context: Context,
    job: str,
    follow: bool = False,
    tail: Text = None,
    raw: bool = False,
    host: Text = None,
    inventory: Text = None,
) -> int:
    """A job's log: byte for byte into a pipe or file, safe to look at on a terminal."""
    one, record = _find(job, host, inventory)
    offset = (
        max(0, record.log_bytes - arguments.whole_number(tail, "--tail", 0, 1 << 40)) if tail else 0
    )
    if follow:
        return _follow(one, record.job_id, offset, raw=raw)
    with terminal.log_writer(raw=raw) as write:
        job_facade.with_agent(
            one, lambda client: job_facade.copy_log(client, record.job_id, offset, write, _note_cut)
        )
    return ExitCode.DONE


@command(
    help={
        "job": "job id, or the beginning of one",
        "grace": "seconds between SIGTERM and SIGKILL",
        "host": "where the job is",
        "inventory": HOSTS_HELP["inventory"],
    },
    positional=["job"],
)
def stop(
    context: Context,
    job: str,
    grace: str = "10",
    host: Text = None,
    inventory: Text = None,
) -> int:
    """Stop a job and every process of it."""
    one, record = _find(job, host, inventory, newest=False)
    seconds = arguments.whole_number(grace, "--grace", 0, 3600)
    stopped = job_facade.with_agent(one, lambda client: client.stop(record.job_id, grace_s=seconds))
    print(f"{stopped.job_id}: {stopped.state}")
    if not stopped.is_final:
        raise RigupError(
            f"{stopped.job_id} has not ended yet; the stop request stays and is carried out",
            host=one.name,
            remedy=f"invoke describe {stopped.job_id}",
        )
    return ExitCode.DONE


@command(
    help={
        "job": "job id, or the beginning of one",
        "to": "directory (default: ./outputs/JOB)",
        "host": "where the job is",
        "inventory": HOSTS_HELP["inventory"],
    },
    positional=["job"],
)
def pull(
    context: Context,
    job: str,
    to: Text = None,
    host: Text = None,
    inventory: Text = None,
) -> int:
    """Bring a job's outputs here; run it again to go on where it broke off."""
    one, record = _find(job, host, inventory)
    target = Path(to) if to else Path("outputs") / record.job_id
    with patient.PatientAgent(
        lambda: job_facade.connect(one), attempts=PULL_ATTEMPTS, on_break=_note_break
    ) as agent:
        pulled = pulling.pull(agent, record.job_id, target, terminal.note_line)
    for path, reason in pulled.left_out:
        terminal.note_line(f"not pulled: {path}: {reason}")
    if not pulled.files and not pulled.left_out:
        terminal.note(f"{record.job_id} has written nothing into $RIGUP_OUTPUT_DIR")
    print(f"{len(pulled.files)} file(s) in {target}")
    return ExitCode.FAILED if pulled.left_out else ExitCode.DONE


@command(
    help={
        "job": "job id, or the beginning of one",
        "host": "where the job is",
        "inventory": HOSTS_HELP["inventory"],
        **JSON_HELP,
    },
    positional=["job"],
)
def describe(
    context: Context,
    job: str,
    host: Text = None,
    inventory: Text = None,
    json: bool = False,
) -> int:
    """One job: command, times, and why it ended."""
    one, record = _find(job, host, inventory)
    if json:
        print(show.as_json({"host": one.name, "job": record}))
    else:
        print(show.describe_job(one.name, record))
    return ExitCode.DONE


@command(
    help={
        **HOSTS_HELP,
        "readonly": "nothing can be stopped from the dashboard",
        "screenshot": "save a picture (.svg or .png) instead of opening it",
    }
)
def dashboard(
    context: Context,
    host: Text = None,
    group: Text = None,
    all_: bool = False,
    inventory: Text = None,
    readonly: bool = False,
    screenshot: Text = None,
) -> int:
    """The terminal dashboard over the hosts (default: all)."""
    import tui

    hosts = _hosts(host, group, all_ or not (host or group), inventory)
    if screenshot:
        code = tui.screenshot(hosts, job_facade.connect, Path(screenshot))
        print(f"saved {screenshot}")
        return code
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "the dashboard needs a terminal", remedy="invoke dashboard --screenshot board.svg"
        )
    return tui.run(hosts, job_facade.connect, readonly=readonly)


@command(
    help={
        "host": HOSTS_HELP["host"],
        "name": "name suffix: `ssh HOST-NAME` will work (default: torch)",
        "gpus": "all, none, or indices such as 0,1 (default: all there are)",
        "image": "image reference (default: chosen to fit the host)",
        "recreate": "replace a container that differs",
        "yes": "with --recreate: also one in which somebody works",
        "inventory": HOSTS_HELP["inventory"],
    }
)
def container_up(
    context: Context,
    host: Text = None,
    name: str = "torch",
    gpus: Text = None,
    image: Text = None,
    recreate: bool = False,
    yes: bool = False,
    inventory: Text = None,
) -> int:
    """Start an SSH-enabled PyTorch container; then `ssh HOST-torch` works."""
    wish = facade.Wish(name, image, gpus, recreate=recreate, end_sessions=yes)
    results = job_facade.on_each(
        _hosts(host, None, False, inventory),
        lambda one: containers.up(one, wish, terminal.note),
        limited=False,
    )
    for one, info, _ in results:
        if info is not None:
            print(show.container_up(facade.alias_of(one, name), info))
    terminal.complain_all(results)
    return outcome.exit_code_of(results)


@command(help={**HOSTS_HELP, **JSON_HELP})
def container_list(
    context: Context,
    host: Text = None,
    group: Text = None,
    all_: bool = False,
    inventory: Text = None,
    json: bool = False,
) -> int:
    """rigup's containers on the hosts (default: all hosts)."""
    hosts = _hosts(host, group, all_ or not (host or group), inventory)
    results = job_facade.on_each(hosts, containers.list_on)
    if json:
        print(show.as_json(show.results_json(results)))
    else:
        print(show.container_table([(one.name, found or ()) for one, found, _ in results]))
    terminal.complain_all(results)
    return outcome.exit_code_of(results)


@command(
    help={
        "host": "host name",
        "name": "name suffix (default: torch)",
        "inventory": HOSTS_HELP["inventory"],
    }
)
def container_ssh(
    context: Context,
    host: Text = None,
    name: str = "torch",
    inventory: Text = None,
) -> int:
    """Open a shell in the container. A command may follow after --"""
    [one] = _exactly_one(_hosts(host, None, False, inventory))
    words = arguments.after_dashes(sys.argv)
    containers.require_alias(one, name)
    remote = [shlex.join(words)] if words else []
    os.execvp("ssh", [*ssh_fragment.ssh_words(), facade.alias_of(one, name), *remote])  # noqa: S606


@command(
    help={
        "host": HOSTS_HELP["host"],
        "name": "name suffix (default: torch)",
        "forget": "remove its home directory and host keys too; asks first",
        "yes": "do not ask",
        "inventory": HOSTS_HELP["inventory"],
    }
)
def container_down(
    context: Context,
    host: Text = None,
    name: str = "torch",
    forget: bool = False,
    yes: bool = False,
    inventory: Text = None,
) -> int:
    """Remove the container; its home directory, mounts and host keys stay."""
    hosts = _hosts(host, None, False, inventory)
    looked = job_facade.on_each(hosts, lambda one: containers.activity(one, name))
    agreed = {one.name: yes for one in hosts}
    for one, busy, error in looked:
        alias = facade.alias_of(one, name)
        if busy:
            arguments.confirm(f"{alias} is in use ({busy}); end that?", yes)
            agreed[one.name] = True
        if forget and error is None:
            arguments.confirm(f"delete the home directory of {alias} for good?", yes)
    results = job_facade.on_each(
        [one for one, _, error in looked if error is None],
        lambda one: containers.down(one, name, forget=forget, end_sessions=agreed[one.name]),
    )
    for one, removed, error in results:
        if error is None:
            print(f"{facade.alias_of(one, name)}: {'removed' if removed else 'was not there'}")
    problems = [*((one, None, error) for one, _, error in looked if error), *results]
    terminal.complain_all(problems)
    return outcome.exit_code_of(problems)


SERVICE_HELP = {
    "host": "host name",
    "name": "the container's name suffix (default: torch)",
    "port": "port on this machine (default: the service's own, or the next free one)",
    "inventory": HOSTS_HELP["inventory"],
}


@command(help=SERVICE_HELP)
def jupyter(
    context: Context,
    host: Text = None,
    name: str = "torch",
    port: Text = None,
    inventory: Text = None,
) -> int:
    """JupyterLab in the container, tunnelled to this machine until ctrl-c."""
    [one] = _exactly_one(_hosts(host, None, False, inventory))
    return _tunnel(one, name, containers.jupyter(one, name), port)


@command(help={**SERVICE_HELP, "logdir": "directory with event files, in the container"})
def tensorboard(
    context: Context,
    logdir: str,
    host: Text = None,
    name: str = "torch",
    port: Text = None,
    inventory: Text = None,
) -> int:
    """TensorBoard in the container, tunnelled to this machine until ctrl-c."""
    [one] = _exactly_one(_hosts(host, None, False, inventory))
    return _tunnel(one, name, containers.tensorboard(one, name, logdir), port)


@command(help={"hosts": "how many", "distro": "debian12, debian13, or both separated by a comma"})
def lab_up(context: Context, hosts: str = "2", distro: str = "debian12,debian13") -> int:
    """Start practice hosts in local Docker: real systems, SIMULATED GPUs."""
    made = lab.up(
        arguments.whole_number(hosts, "--hosts", 1, 32),
        distros=distro.split(","),
        home=rigup_home(),
        progress=terminal.note,
    )
    print(show.lab(made))
    return ExitCode.DONE


@command(help=JSON_HELP)
def lab_status(context: Context, json: bool = False) -> int:
    """The practice hosts."""
    found = lab.status(rigup_home())
    print(show.as_json(found) if json else show.lab(found))
    return ExitCode.DONE


@command(help={"images": "remove the cached images too"})
def lab_down(context: Context, images: bool = False) -> int:
    """Remove the practice hosts and what belongs to them."""
    hosts = lab.status(rigup_home()).hosts
    removed = lab.down(rigup_home(), images=images)
    ssh_fragment.forget_hosts(host.name for host in hosts)
    print(f"{removed} practice host(s) removed")
    return ExitCode.DONE


def _host_reports(reports: Sequence[HostReport], json: bool) -> int:
    if json:
        print(show.as_json([show_hosts.host_report_json(report) for report in reports]))
    else:
        text = "\n".join(show_hosts.host_report(report) for report in reports)
        print(terminal.as_typed(text))
    terminal.note(show_hosts.summary(reports))
    return outcome.worst_code([report.exit_code for report in reports])


def _exit(message: str, code: int) -> Exit:
    return Exit(terminal.as_typed(message), code=code)


def _inventory(path: str | None) -> Inventory:
    return load_inventory(find_inventory(Path(path) if path else None, os.environ))


def _hosts(
    host: str | None, group: str | None, everything: bool, inventory: str | None
) -> tuple[Host, ...]:
    return _inventory(inventory).select(hosts=host, group=group, everything=everything)


def _exactly_one(hosts: Sequence[Host]) -> Sequence[Host]:
    if len(hosts) != 1:
        raise UsageError("exactly one host is needed here", remedy="name it with --host")
    return hosts


def _doctor_log(path: str, json: bool) -> ExitCode:
    if path == captured.STANDARD_INPUT and sys.stdin.isatty():
        terminal.note("reading standard input; ctrl-d ends it")
    name, findings = captured.read(path)
    if json:
        print(show.as_json({"log": name, "findings": findings}))
    else:
        print(terminal.as_typed(doctor_report.log_text(findings, name)))
    return ExitCode.FAILED if findings else ExitCode.DONE


def _find(
    job: str, host: str | None, inventory: str | None, *, newest: bool = True
) -> tuple[Host, JobRecord]:
    one, record = job_facade.find(job, _inventory(inventory), host, newest=newest)
    if record.job_id != job:
        terminal.note(f"{record.job_id} on {one.name}")
    return one, record


def _follow(
    host: Host,
    job_id: str,
    offset: int,
    *,
    raw: bool = False,
    first: AgentClient | None = None,
) -> ExitCode:
    """``first``: a connection that is open already."""
    ready = [first] if first else []
    with terminal.log_writer(raw=raw) as write, _said_when_left(job_id):
        final = job_facade.follow_to_end(
            lambda: ready.pop() if ready else job_facade.connect(host),
            job_id,
            write,
            offset=offset,
            on_break=_note_break,
            on_cut=_note_cut,
            on_wait=lambda reason: terminal.note_line(show.waiting(reason)),
        )
    terminal.note(show.describe_end(host.name, final))
    return ExitCode.DONE if final.state == "succeeded" else ExitCode.FAILED


@contextmanager
def _said_when_left(job_id: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        terminal.note(f"stopped following; the job goes on. End it: invoke stop {job_id}")
        raise


def _note_break(error: RigupError, pause: float) -> None:
    terminal.note_line(f"{error.message}; trying again in {pause:g} s (the job goes on)")


def _note_cut(read: int, left: int) -> None:
    terminal.note(
        f"the job made its log shorter: {read} bytes were read, {left} are left; "
        "what follows is the new log from its beginning"
    )


def _tunnel(host: Host, name: str, service: services.Service, port: Text) -> int:
    wanted = None if port is None else arguments.whole_number(port, "--port", 1, 65535)
    local = tunnel.free_port(wanted, service.port)
    print(service.url(local), flush=True)
    terminal.note("ctrl-c closes the tunnel; the service goes on")
    return tunnel.run_tunnel(facade.alias_of(host, name), service.port, local)


def _namespace() -> Collection:
    root = Collection()
    root.add_task(trust_hosts, name="trust")
    for body in (
        provision,
        uninstall,
        facts,
        doctor,
        train,
        jobs,
        logs,
        stop,
        pull,
        describe,
        dashboard,
        jupyter,
        tensorboard,
    ):
        root.add_task(body)
    container = Collection("container")
    for name, body in (
        ("up", container_up),
        ("list", container_list),
        ("ssh", container_ssh),
        ("down", container_down),
    ):
        container.add_task(body, name=name)
    practice = Collection("lab")
    for name, body in (("up", lab_up), ("status", lab_status), ("down", lab_down)):
        practice.add_task(body, name=name)
    root.add_collection(container)
    root.add_collection(practice)
    return root


namespace = _namespace()


class _Rigup(Program):
    """Invoke's program; a command line that it cannot parse is a usage error (exit 2)."""

    def parse_tasks(self) -> None:
        try:
            super().parse_tasks()
        except ParseError as error:
            remedy = "rigup --list, or rigup COMMAND --help"
            raise Exit(f"{error}\ntry: {remedy}", code=int(ExitCode.USAGE)) from error

    def print_version(self) -> None:
        from importlib.metadata import version

        print(f"rigup {version('rigup')}")


def main() -> None:
    """The console script ``rigup``."""
    try:
        _Rigup(namespace=namespace, name="rigup", binary="rigup").run()
        sys.stdout.flush()
    except BrokenPipeError:  # rigup --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
