"""One large NumPy array in shared memory, read by all tasks and copied by none.

    python shared_array.py [MiB]           # how large it is; 256 if not said

A table of vectors, of which every task finds those nearest to its own. `put` writes
the table once into the object store; in a task it is an array over those very pages, read-only.
"""

import os
import sys
import time

import manyhands as mh
import numpy as np

WIDTH = 64  # numbers in a vector
NEAREST = 5


def vectors(mib, seed=0):
    """A table of so many MiB."""
    rows = (mib << 20) // (4 * WIDTH)
    return np.random.default_rng(seed).random((rows, WIDTH), dtype=np.float32)


def questions(tasks, seed=1):
    """A vector for each task."""
    return list(np.random.default_rng(seed).random((tasks, WIDTH), dtype=np.float32))


def nearest(table, question):
    """The rows of `table` that are nearest to a vector, nearest first."""
    # Block by block, so that what is computed on the way stays small.
    blocks = np.array_split(table, len(table) // 1024 + 1)
    distance = np.concatenate([((block - question) ** 2).sum(axis=1) for block in blocks])
    rows = np.argpartition(distance, NEAREST)[:NEAREST]
    return rows[np.argsort(distance[rows])]


def search(client, table, asked):
    """The answers to all questions, by the cluster of `client`. `table` is a future or an array."""
    return client.gather([client.submit(nearest, table, question) for question in asked])


def own_memory(table):
    """MiB that this executor alone has, what it may write to the table, and its process id."""
    with open("/proc/self/smaps_rollup") as lines:
        private = sum(int(line.split()[1]) for line in lines if line.startswith("Private"))
    return private / 1024, table.flags.writeable, os.getpid()


def main():
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    array, asked = vectors(mib), questions(16)
    with mh.Client(preload=["numpy"]) as client:
        start = time.perf_counter()
        table = client.put(array)
        put = time.perf_counter() - start
        print(f"put {mib} MiB: {put:.2f} s, {array.nbytes / put / 1e9:.1f} GB/s")

        start = time.perf_counter()
        found = search(client, table, asked)
        took = time.perf_counter() - start
        print(f"{len(asked)} tasks read all of it: {took:.2f} s")

        executors = {
            pid: (private, writeable)
            for private, writeable, pid in client.map(own_memory, [table] * 20)
        }
        for pid, (private, writeable) in sorted(executors.items()):
            print(f"executor {pid}: {private:.1f} MiB of its own, may write to it: {writeable}")
    expected = [nearest(array, question) for question in asked]
    assert np.array_equal(found, expected)
    print("the answers are those of one process")


if __name__ == "__main__":
    main()
