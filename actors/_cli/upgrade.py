"""`evy upgrade`: another release of EVY under a running node, and back when it does not work.

Releases lie side by side, each with its own `.venv`; ``/opt/evy`` is a symbolic link to one of them. To
upgrade is to point it elsewhere and to end `evy up`, which systemd starts again. What is under way lies in
JetStream and on the SIM meanwhile.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Final, NoReturn

import click

from actors._runtime.bus import BusError, NatsBus
from actors._runtime.config import Config, load_config
from actors._runtime.health import answering
from actors._runtime.identity import load_identity
from actors._runtime.process import log_to_stderr
from actors._runtime.supervisor import DirectoryLock
from subjects.errors import EvyError

LOOK_EVERY_S: Final = 0.5
STEADY_S: Final = 5.0
"""How long everything must work on end."""
STARTS: Final = 3
"""A release whose `evy up` ended so often will not come up."""
BACK_WITHIN_S: Final = 180.0
"""What worked before gets so long, however little the new release was given."""
CHECK_WITHIN_S: Final = 120.0


class UpgradeError(EvyError):
    """The release is not in use; the text says why, and what runs now."""


def check_release(release: Path, config: Config) -> None:
    """Raises :class:`UpgradeError` for a release that cannot run here, before anything is touched."""
    program = release / ".venv" / "bin" / "evy"
    if not os.access(program, os.X_OK):
        raise UpgradeError(f"{program} is no program: unpack the release there and run `make setup` in it")
    options = ["--config", str(config.path)] if config.path else []
    try:
        done = subprocess.run(
            [str(program), *options, "up", "--check"],
            capture_output=True,
            text=True,
            check=False,
            timeout=CHECK_WITHIN_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UpgradeError(f"{program}: {error}; nothing was changed") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise UpgradeError(f"the release refuses this node: {said[-1]}; nothing was changed")


def switch(link: Path, release: Path) -> None:
    """Points ``link`` to a release; there is no moment without one."""
    draft = link.with_name(f".{link.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.symlink_to(release)
    draft.replace(link)
    directory = os.open(link.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def _previous(link: Path) -> Path:
    return link.with_name(f"{link.name}.previous")


def _trial(link: Path) -> Path:
    return link.with_name(f"{link.name}.trial")


def end(directory: Path) -> int | None:
    """Asks the running `evy up` to end, and gives its process."""
    pid = DirectoryLock.holder(directory)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    return pid


async def works(config: Config, former: int | None, within_s: float) -> str:
    """Waits until another `evy up` than ``former`` has all its actors at work, and for a while; empty then,
    else why not."""
    identity = load_identity(config.node.name, config.node.directory)
    wanted = {"+".join(group) for group in config.node.processes}
    until, since = time.monotonic() + within_s, 0.0
    seen: dict[int, None] = {}
    reason = "nothing has started `evy up` again: is it run by systemd, with Restart=always?"
    while time.monotonic() < until:
        await asyncio.sleep(LOOK_EVERY_S)
        pid = DirectoryLock.holder(config.node.directory)
        if pid is None or pid == former:
            since = 0.0
            if seen:
                reason = "`evy up` has ended"
            continue
        if pid not in seen:
            seen[pid], since = None, 0.0
        if len(seen) > STARTS:
            return f"`evy up` ended {STARTS} times"
        try:
            bus = await NatsBus.connect(identity, config.node.url, "upgrade", wait_s=2)
        except BusError as error:
            since, reason = 0.0, str(error)
            continue
        try:
            silent = wanted - await answering(bus, wanted)
        finally:
            await bus.close()
        if silent:
            since, reason = 0.0, f"{', '.join(sorted(silent))} did not come up; journalctl -u evy says why"
        elif not since:
            since = time.monotonic()
        elif time.monotonic() - since >= STEADY_S:
            return ""
    return reason


async def upgrade_node(config: Config, link: Path, release: Path, within_s: float) -> None:
    """Puts ``release`` in use and waits until the node works; else puts back what was in use before.

    Raises :class:`UpgradeError`, which says what runs now.
    """
    former = DirectoryLock.holder(config.node.directory)
    switch(_previous(link), Path(os.readlink(link)))  # noqa: PTH115  # nothing else runs in this loop
    if former is not None:
        _trial(link).touch()
    switch(link, release)
    if former is not None:
        end(config.node.directory)
        await settle(config, link, former, within_s)


async def settle(config: Config, link: Path, former: int | None, within_s: float) -> None:
    """Waits until the node works with what ``link`` points to, or goes back. Raises :class:`UpgradeError`.

    Also after a power cut in the middle of an upgrade, when a file beside the link says that it is on trial.
    """
    reason = await works(config, former, within_s)
    if reason:
        failed, before = (Path(os.readlink(path)) for path in (link, _previous(link)))  # noqa: PTH115  # likewise
        click.echo(f"{failed} does not work ({reason}); going back to {before}", err=True)
        switch(link, before)
        ended = end(config.node.directory)
        again = await works(config, ended, max(within_s, BACK_WITHIN_S))
        _trial(link).unlink(missing_ok=True)
        _give_up(failed, before, reason, again)
    _trial(link).unlink(missing_ok=True)


def _give_up(release: Path, before: Path, reason: str, again: str) -> NoReturn:
    if again:
        raise UpgradeError(
            f"{release.name} does not work ({reason}), and {before.name}, in use again, does not either "
            f"({again}): look at its log, journalctl -u evy"
        )
    raise UpgradeError(
        f"{release.name} does not work ({reason}); {before.name} is in use again, nothing is lost"
    )


def _check_link(link: Path) -> None:
    if not link.is_symlink():
        raise UpgradeError(
            f"{link} is no symbolic link: move the release in use beside it and link it, such as\n"
            f"  systemctl stop evy; mv {link} {link}-1.0; ln -s {link}-1.0 {link}; "
            f"make -C {link}-1.0 setup; systemctl start evy"
        )


@click.command()
@click.argument("release", type=click.Path(path_type=Path), required=False)
@click.option(
    "--link",
    type=click.Path(path_type=Path),
    default="/opt/evy",
    show_default=True,
    help="Symbolic link to the release in use.",
)
@click.option(
    "--within", type=float, default=180.0, show_default=True, help="Seconds until the node must work."
)
@click.option("--back", is_flag=True, help="Go back to the release that was in use before.")
@click.option("--resume", is_flag=True, help="Finish what a power cut interrupted; nothing to do else.")
@click.pass_obj
def upgrade(
    path: Path | None, release: Path | None, *, link: Path, within: float, back: bool, resume: bool
) -> None:
    """Put another release of EVY under this node, and back when it does not work.

    The new one must read this node's configuration first. Then the link is moved, `evy up` is asked to end,
    systemd starts it again, and within the time every actor must be at work; if not, the former one comes
    back in the same way. Texts wait on the SIM and in the store: none is lost, none is answered twice.

    \b
    git clone … /opt/evy-1.1 && make -C /opt/evy-1.1 setup
    sudo EVY_CONFIG=/etc/evy/evy.toml /opt/evy-1.1/.venv/bin/evy upgrade /opt/evy-1.1
    """  # noqa: D301  # \b is click's mark against re-wrapping
    log_to_stderr("CRITICAL")
    config = load_config(path)
    _check_link(link)
    if back + resume + bool(release) != 1:
        raise click.UsageError("name the directory of a release, or --back, or --resume")
    if resume:
        if _trial(link).exists():
            asyncio.run(settle(config, link, None, within))
            click.echo(f"{link.resolve()} is in use")
        return
    wanted = release.resolve() if release else _previous(link)
    if back:
        if not wanted.is_symlink():
            raise UpgradeError(f"no release was in use here before ({wanted} is not there)")
        wanted = wanted.resolve()
    if wanted == link.resolve():
        click.echo(f"{wanted} is in use already")
        return
    check_release(wanted, config)
    running = DirectoryLock.holder(config.node.directory) is not None
    asyncio.run(upgrade_node(config, link, wanted, within))
    click.echo(f"{wanted} is in use" + ("" if running else "; the node does not run: systemctl start evy"))
