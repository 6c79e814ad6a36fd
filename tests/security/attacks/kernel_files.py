"""Writes the kernel's switches back as they are. Reports those it could write, and special files
that it could make."""

import json
import os
import stat

written = []
for path in (
    *("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug"),
    *(
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/domainname",
        "/proc/sys/kernel/randomize_va_space",
    ),
    *("/proc/sys/vm/overcommit_memory", "/proc/sys/fs/suid_dumpable", "/proc/sys/kernel/panic"),
    *(
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/net/ipv4/ping_group_range",
        "/proc/sys/fs/pipe-max-size",
    ),
    *(
        "/proc/sys/kernel/shmmax",
        "/proc/sys/fs/mqueue/msg_max",
        "/proc/sys/user/max_user_namespaces",
    ),
    *("/proc/sys/kernel/printk", "/proc/irq/default_smp_affinity"),
    *("/sys/kernel/uevent_helper", "/sys/kernel/mm/ksm/run", "/sys/power/mem_sleep"),
):
    try:
        with open(path, "rb+", 0) as file:
            value = file.read(4096)
            file.seek(0)
            file.write(value)
        written.append(path)
    except OSError:
        pass
for path in (
    "/proc/sysrq-trigger",
    "/proc/kcore",
    "/dev/mem",
    "/dev/kmsg",
    "/proc/kmsg",
    "/sys/fs/cgroup/release_agent",
    "/sys/fs/cgroup/memory/release_agent",
    "/sys/fs/cgroup/memory/cgroup.procs",
    "/sys/fs/cgroup/cgroup.procs",
    "/proc/keys",
    "/proc/kallsyms",
    "/proc/vmallocinfo",
    "/proc/slabinfo",
    "/proc/cmdline",
):
    flags = os.O_WRONLY if path.endswith(("trigger", "agent", "procs")) else os.O_RDONLY
    try:
        descriptor = os.open(path, flags)
        data = os.read(descriptor, 10) if flags == os.O_RDONLY and "kmsg" not in path else b"opened"
        if data:
            written.append(path)
        os.close(descriptor)
    except OSError:
        pass
for name, kind, device in (
    ("null", stat.S_IFCHR, os.makedev(1, 3)),
    ("memory", stat.S_IFCHR, os.makedev(1, 1)),
    ("disk", stat.S_IFBLK, os.makedev(254, 0)),
    ("whiteout", stat.S_IFCHR, 0),
):
    for where in (".", "/tmp", "/dev/shm"):
        path = f"{where}/casemate-node-{os.getpid()}-{name}"
        try:
            os.mknod(path, kind | 0o666, device)
            os.unlink(path)
            written.append(f"mknod {name} in {where}")
        except OSError:
            pass
print(json.dumps(written))
