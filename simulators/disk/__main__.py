"""Mounts a simulated card: ``python -m simulators.disk MOUNTPOINT --backing DIRECTORY``."""

import asyncio
import contextlib
import logging
import resource
import signal
import sys
from pathlib import Path

import click

from simulators.disk.card import Card
from simulators.disk.fuse import Disk, mount, unmount
from simulators.disk.orders import serve


async def run(
    mountpoint: Path, backing: Path, control: Path | None, size_octets: int, sync_takes_s: float
) -> None:
    """Serves until SIGINT, SIGTERM or an unmount; what is not synced then reaches the card."""
    card = Card(backing, size_octets)
    disk = Disk(card, mount(mountpoint))
    disk.sync_takes_s = sync_takes_s
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, disk.gone.set)
    try:
        async with serve(control, disk) if control else contextlib.nullcontext():
            await disk.gone.wait()
    finally:
        with contextlib.suppress(OSError):  # somebody else unmounted it
            unmount(mountpoint)
        disk.close()


@click.command()
@click.argument("mountpoint", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--backing",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Directory that holds what is safely on the card.",
)
@click.option(
    "--control", type=click.Path(path_type=Path), help="Unix socket that takes orders, one JSON a line."
)
@click.option("--size-mb", default=1024, show_default=True, help="Room on the card.")
@click.option("--sync-ms", default=0.0, show_default=True, help="Time each fsync takes.")
def main(mountpoint: Path, backing: Path, control: Path | None, size_mb: int, sync_ms: float) -> None:
    """Memory card that can lose its power: what was not fsynced is gone after the order {"do": "cut"}.

    Needs Linux, /dev/fuse and root. Other orders: room, slow, fail, look. Ctrl-C unmounts it.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    for directory in (mountpoint, backing):
        directory.mkdir(parents=True, exist_ok=True)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each file on the card holds a descriptor
    try:
        asyncio.run(run(mountpoint, backing, control, size_mb * 1024 * 1024, sync_ms / 1000))
    except OSError as error:
        raise click.ClickException(f"{error} (needs Linux, /dev/fuse and root)") from error


if __name__ == "__main__":
    main()
