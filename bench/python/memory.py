"""What memory the processes of a local cluster have, from /proc: this process and all below it."""

import os


def tree():
    """The ids of this process and of all its descendants."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as stat:
                # The command's name is in parentheses, and may have spaces in it.
                parents[int(name)] = int(stat.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [os.getpid()]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


def rollup(pid, field):
    """Bytes of a field of /proc/PID/smaps_rollup; 0 if the process has gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as lines:
            return next(
                int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:")
            )
    except (OSError, StopIteration):
        return 0


def proportional(pids=None):
    """Bytes of these processes, each page counted once: it is divided among those that share it."""
    return sum(rollup(pid, "Pss") for pid in pids or tree())


def private(pids=None):
    """The part of it that is no file and no shared memory: what copies of a value would be in."""
    return sum(rollup(pid, "Pss_Anon") for pid in pids or tree())


def shared():
    """Bytes of all nameless shared memory (memfd) that one of the processes has open."""
    blocks = {}
    for pid in tree():
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for descriptor in descriptors:
            path = f"/proc/{pid}/fd/{descriptor}"
            try:
                if os.readlink(path).startswith("/memfd:"):
                    stat = os.stat(path)
                    blocks[stat.st_ino] = stat.st_blocks
            except OSError:
                continue
    return 512 * sum(blocks.values())


def machine():
    """Bytes of the whole machine that are in use, and those of them that are shared memory."""
    with open("/proc/meminfo") as lines:
        fields = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}
    return fields["MemTotal"] - fields["MemAvailable"], fields["Shmem"]
