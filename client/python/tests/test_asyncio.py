"""All of it from an event loop."""

import asyncio
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import manyhands as mh
import pytest
from conftest import LIMIT_S, pass_gate


def run(coroutine):
    async def limited():
        return await asyncio.wait_for(coroutine, LIMIT_S)

    return asyncio.run(limited())


def fail():
    raise ValueError("no")


def test_await(client, gate):
    async def main():
        future = client.submit(pass_gate, gate, 5)
        asyncio.get_running_loop().call_soon(gate.open)
        assert await future == 5
        assert await future == 5, "again"
        with pytest.raises(ValueError):
            await client.submit(fail)

    run(main())


def test_gather_of_asyncio(client):
    async def main():
        return await asyncio.gather(*(client.submit(abs, -n) for n in range(200)))

    assert run(main()) == list(range(200))


def test_gather_async(client):
    async def main():
        futures = client.submit_many(abs, range(-2000, 0))
        assert await mh.gather_async(futures) == list(range(2000, 0, -1))
        assert await client.gather_async([]) == []
        with pytest.raises(ValueError):
            await mh.gather_async([*futures, client.submit(fail)])

    run(main())


def test_wrap_future_and_wait(client, gate):
    async def main():
        wrapped = asyncio.wrap_future(client.submit(pass_gate, gate, 1))
        done, _ = await asyncio.wait([wrapped], timeout=0.01)
        assert not done
        gate.open()
        assert await wrapped == 1

    run(main())


def test_run_in_executor(client):
    async def main():
        return await asyncio.get_running_loop().run_in_executor(client, pow, 2, 5)

    assert run(main()) == 32


async def awaited(future):
    return await future


async def first_of(results):
    return await anext(results)


@pytest.mark.parametrize("wait", [awaited, asyncio.wrap_future])
def test_an_await_that_is_cancelled_cancels_the_task(client, gate, wait):
    async def main():
        future = client.submit(pass_gate, gate, 1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait(future), 0.01)
        await asyncio.to_thread(mh.wait, [future], LIMIT_S)
        assert future.cancelled()

    run(main())


def test_a_shielded_await_that_is_cancelled_cancels_nothing(client, gate):
    async def main():
        future = client.submit(pass_gate, gate, 1)
        waiting = asyncio.ensure_future(awaited(future))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.01)
        gate.open()
        assert await waiting == 1

    run(main())


def test_gather_async_that_is_cancelled_cancels_all(client, gate):
    async def main():
        futures = [client.submit(pass_gate, gate, n) for n in range(3)]
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(mh.gather_async(futures), 0.01)
        await asyncio.to_thread(mh.wait, futures, LIMIT_S)
        assert all(future.cancelled() for future in futures)

    run(main())


def test_a_map_whose_async_for_is_cancelled_is_closed(client, gate):
    async def main():
        results = client.map(pass_gate, [gate] * 3)
        futures = list(results._futures)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(first_of(results), 0.01)
        await asyncio.to_thread(mh.wait, futures, LIMIT_S)
        assert all(future.cancelled() for future in futures) and len(results) == 0

    run(main())


def test_as_completed(client, gate):
    async def main():
        slow, quick = client.submit(pass_gate, gate, "slow"), client.submit(abs, -1)
        found = []
        async for future in mh.as_completed([slow, quick], timeout=LIMIT_S):
            found.append(await future)
            gate.open()
        assert found == [1, "slow"]

    run(main())


def test_as_completed_times_out(client, gate):
    async def main():
        with pytest.raises(TimeoutError):
            async for _ in mh.as_completed([client.submit(pass_gate, gate)], timeout=0.01):
                pass

    run(main())


def test_map(client):
    async def main():
        return [n async for n in client.map(abs, range(-100, 0))]

    assert run(main()) == list(range(100, 0, -1))


def test_map_fails_where_the_item_is(client):
    async def main():
        found = []
        with pytest.raises(ZeroDivisionError):
            async for n in client.map(divmod, [4, 4], [2, 0]):
                found.append(n)
        return found

    assert run(main()) == [(2, 0)]


def test_compute(client):
    async def main():
        node = mh.delayed(sum)([mh.delayed(abs)(-1), 2])
        assert await mh.compute_async(node, client=client) == 3

    run(main())


def test_a_client_in_an_async_block():
    async def main():
        async with mh.Client("local", workers=1) as client:
            return await client.submit(abs, -3)

    assert run(main()) == 3


def test_many_loops_one_after_the_other(client):
    async def main():
        return await client.submit(abs, -1)

    assert [run(main()) for _ in range(3)] == [1, 1, 1]


INTERRUPTED = """
import asyncio, sys
import manyhands as mh

def begin_and_wait():
    import threading
    print("runs")
    threading.Event().wait()

async def main():
    async with mh.Client("local", workers=1) as client:
        future = client.submit(begin_and_wait)
        if sys.argv[1] == "awaits":
            await future

asyncio.run(main())
"""


@pytest.mark.parametrize("place", ["awaits", "leaves"])
def test_ctrl_c_stops_what_runs(place):
    """Within the block, and while it is left."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, place],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().endswith("] runs\n")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_a_block_that_is_cancelled_stops_what_runs(bell):
    async def block():
        async with mh.Client("local", workers=1) as client:
            await client.submit(ring_and_wait, bell)

    async def main():
        task = asyncio.create_task(block())
        await asyncio.to_thread(bell.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


class Ending(mh.Client):
    """Says when its block is over."""

    is_ending = False

    def shutdown(self, *arguments, **keywords):
        self.is_ending = True
        super().shutdown(*arguments, **keywords)


def test_a_block_that_is_cancelled_while_it_ends_stops_what_runs(bell):
    client = Ending("local", workers=1)

    async def block():
        async with client:
            client.submit(ring_and_wait, bell)
            await asyncio.to_thread(bell.wait)

    async def main():
        # Waiting for what runs takes the only thread that it has.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        task = asyncio.create_task(block())
        while not client.is_ending:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert not client.is_open


def test_a_block_that_raises_waits_for_what_runs(gate, bell, tmp_path):
    async def block():
        async with mh.Client("local", workers=1) as client:
            client.submit(ring_pass_and_touch, bell, gate, tmp_path / "done")
            await asyncio.to_thread(bell.wait)
            asyncio.get_running_loop().call_soon(gate.open)
            raise ValueError("no")

    with pytest.raises(ValueError):
        run(block())
    assert (tmp_path / "done").exists()


def ring_and_wait(bell):
    import threading

    bell.ring()
    threading.Event().wait()


def ring_pass_and_touch(bell, gate, file):
    bell.ring()
    gate.wait()
    file.touch()
