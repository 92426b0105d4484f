"""An executor killed halfway: are all results there, and how much time did it cost?

python killed_executor.py [tasks] [ms] [repeats]      # 2,000 tasks of 10 ms, 3 times, if not said
"""

import os
import signal
import statistics
import sys
import time

import manyhands as mh


def spin(number, ms):
    """Uses `ms` milliseconds of processor time. Returns its number, and the executor's process."""
    end = time.thread_time_ns() + int(ms * 1e6)
    while time.thread_time_ns() < end:
        pass
    return number, os.getpid()


def run(client, tasks, ms, kill):
    """All results, and the seconds they took. With `kill`, an executor is killed halfway."""
    start = time.perf_counter()
    futures = [client.submit(spin, number, ms) for number in range(tasks)]
    for done, future in enumerate(mh.as_completed(futures), start=1):
        if kill and done == tasks // 2:
            os.kill(future.result()[1], signal.SIGKILL)
    found = client.gather(futures)
    return found, time.perf_counter() - start


def measure(client, tasks=2_000, ms=10):
    """Seconds of a run without trouble and of one in which an executor dies."""
    numbers = list(range(tasks))
    calm, calm_s = run(client, tasks, ms, kill=False)
    found, killed_s = run(client, tasks, ms, kill=True)
    assert [number for number, _ in calm] == numbers
    assert [number for number, _ in found] == numbers, "not all results are there"
    new = {pid for _, pid in found} - {pid for _, pid in calm}
    return calm_s, killed_s, len(new)


def main():
    tasks, ms, repeats = [*map(int, sys.argv[1:]), *(2_000, 10, 3)[len(sys.argv) - 1 :]]
    lost = []
    with mh.Client() as client:
        client.gather([client.submit(spin, number, 1) for number in range(100)])
        for _ in range(repeats):
            calm_s, killed_s, new = measure(client, tasks, ms)
            lost.append(killed_s - calm_s)
            print(
                f"{tasks:,} tasks of {ms} ms: {calm_s:.3f} s; with an executor killed halfway "
                f"{killed_s:.3f} s, {new} executor started in its place; all results are there"
            )
    print(f"time lost: {statistics.median(lost):.3f} s [{min(lost):.3f} to {max(lost):.3f}]")


if __name__ == "__main__":
    main()
