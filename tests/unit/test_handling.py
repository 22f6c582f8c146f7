"""The end of tasks that would go on."""

import asyncio

import pytest

from actors._runtime.handling import end


async def deaf(times: int) -> str:
    """A loop whose request drops the first cancellations, as `asyncio.wait_for` of Python 3.11 may."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if not times:
                raise
            times -= 1


@pytest.mark.parametrize("times", [0, 1, 3])
async def test_a_task_that_drops_a_cancellation_ends_all_the_same(times: int) -> None:
    task = asyncio.create_task(deaf(times))
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await end([task], patience_s=0.01)
    assert task.cancelled()


async def test_a_task_that_tidies_up_is_let_finish() -> None:
    done = []

    async def tidy() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.05)
            done.append(True)

    task = asyncio.create_task(tidy())
    await asyncio.sleep(0)
    await end([task])
    assert done == [True]


async def test_an_error_stays_in_its_task() -> None:
    async def broken() -> None:
        raise ValueError

    task = asyncio.create_task(broken())
    await end([])
    await end([task])
    assert task.cancelled() or isinstance(task.exception(), ValueError)
