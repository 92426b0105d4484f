"""An array that is put once and read by many tasks: is it ever copied, does all memory come back?

    python large_array.py [MiB] [tasks]    # 1024 and 100 if not said

Prints after each step what the cluster's processes have of their own and share, and what is in use
on the whole machine.
"""

import gc
import sys
import time

import manyhands as mh
import memory
import numpy as np

# How long memory may take to come back, in seconds: freed segments are kept for a while.
PATIENCE_S = 60


def read(array):
    """The array's sum and whether it may be written to, every page of it having been touched."""
    return int(array[::512].sum()), array.flags.writeable


class Steps:
    """Bytes after each step: private and shared ones, the machine's in use and its shared ones."""

    def __init__(self, told):
        self.told = told
        self.after = {}

    def take(self, step):
        """Measures, and tells."""
        self.after[step] = (memory.private(), memory.shared(), *memory.machine())
        self.told(step, self.after[step])


def measure(client, mib=1024, tasks=100, told=lambda step, figures: None):
    """Goes through all steps. Returns their memory, and the seconds until all of it was back."""
    steps = Steps(told)
    client.gather([client.submit(read, np.zeros(8))] * 4)
    steps.take("cluster started")
    array = np.full((mib << 20) // 8, 7, dtype=np.int64)
    expected = (7 * len(array[::512]), False)
    steps.take("array made")
    future = client.put(array)
    steps.take("put")
    del array
    steps.take("the array itself dropped")
    found = client.gather([client.submit(read, future) for _ in range(tasks)])
    assert found == [expected] * tasks, found[:3]
    steps.take(f"read by {tasks} tasks")
    view = future.result()
    assert read(view) == expected
    steps.take("read by the client")
    del view, future
    seconds = until_back(steps.after["cluster started"][1] + (1 << 20))
    steps.take("the last reference dropped")
    return steps.after, seconds


def until_back(limit):
    """Seconds until at most `limit` bytes of shared memory are left."""
    start = time.monotonic()
    while memory.shared() > limit:
        gc.collect()
        if time.monotonic() - start > PATIENCE_S:
            left = memory.shared() >> 20
            raise TimeoutError(f"{left} MiB of shared memory are still there after {PATIENCE_S} s")
        time.sleep(0.05)
    return time.monotonic() - start


def show(step, figures):
    """Prints a row of the table."""
    print(f"{step:<28}" + "".join(f"{figure / 2**20:>12,.1f}" for figure in figures), flush=True)


def main():
    mib, tasks = [*map(int, sys.argv[1:]), *(1024, 100)[len(sys.argv) - 1 :]]
    print(f"{'MiB':<28}{'private':>12}{'shared':>12}{'machine':>12}{'its shared':>12}")
    with mh.Client(preload=["numpy"]) as client:
        _, seconds = measure(client, mib, tasks, show)
        print(f"all memory was back {seconds:.1f} s after the last reference had gone")


if __name__ == "__main__":
    main()
