"""What a future costs that a client holds: bytes in all processes of the cluster together.

python held_futures.py [futures]       # 100,000 if not said
"""

import sys
import time

import manyhands as mh
import memory


def same(number):
    """The task: its result is small, and kept while the future is."""
    return number


def measure(client, count=100_000):
    """Bytes for each future whose task has ended: in all processes, and in this one."""
    client.gather([client.submit(same, number) for number in range(200)])
    before, own_before = memory.proportional(), memory.proportional(memory.tree()[:1])
    futures = [client.submit(same, number) for number in range(count)]
    assert client.gather(futures) == list(range(count))
    after, own_after = memory.proportional(), memory.proportional(memory.tree()[:1])
    return (after - before) / count, (own_after - own_before) / count


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with mh.Client() as client:
        start = time.perf_counter()
        everywhere, here = measure(client, count)
        took = time.perf_counter() - start
    print(f"{count:,} futures held: {everywhere:,.0f} bytes each in the whole cluster,")
    print(f"{here:,.0f} of them in the client's process; {took:.2f} s to submit and gather them")


if __name__ == "__main__":
    main()
