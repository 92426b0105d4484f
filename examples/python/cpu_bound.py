"""What there is to win: work for the processor, one after the other and on every core.

    python cpu_bound.py [limit]      # Collatz chains of all numbers below; 300,000 if not said

Plain Python, so that nothing but processes helps. The same work is cut into ever smaller tasks:
one sees how small a task may be before handing it on costs more than it brings.
"""

import sys
import time

import manyhands as mh


def longest(first, end):
    """The longest Collatz chain that begins with a number from `first` to below `end`.

    Its length, and the number: the smallest one, where several are as long.
    """
    best = (0, first)
    for start in range(first, end):
        number, steps = start, 1
        while number != 1:
            number = number // 2 if number % 2 == 0 else 3 * number + 1
            steps += 1
        if steps > best[0]:
            best = (steps, start)
    return best


def ranges(limit, tasks):
    """The numbers from 1 to below `limit`, in about equal parts."""
    cuts = [1 + (limit - 1) * part // tasks for part in range(tasks + 1)]
    return cuts[:-1], cuts[1:]


def search(client, limit, tasks):
    """The longest chain below `limit`, by the cluster of `client` in so many tasks."""
    found = client.map(longest, *ranges(limit, tasks))
    return max(found, key=lambda best: (best[0], -best[1]))


def main():
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    start = time.perf_counter()
    expected = longest(1, limit)
    alone = time.perf_counter() - start
    print(f"below {limit:,} the longest chain begins with {expected[1]:,}: {expected[0]} numbers")
    print(f"one process      {alone:6.2f} s")
    with mh.Client() as client:
        client.submit(longest, 1, 10).result()  # Executors are there when the clock starts.
        for tasks in (10, 100, 1_000, 10_000):
            start = time.perf_counter()
            found = search(client, limit, tasks)
            took = time.perf_counter() - start
            print(
                f"{tasks:>6,} tasks     {took:6.2f} s   {alone / tasks * 1e3:8.2f} ms each, "
                f"{alone / took:.2f} times as fast"
            )
            assert found == expected


if __name__ == "__main__":
    main()
