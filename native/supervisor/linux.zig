//! The kernel interface: raw system calls, and the structures and numbers `std` lacks.
//! Source for each call: its section 2 man page; for Landlock, linux/landlock.h.

const std = @import("std");
pub const sys = std.os.linux;
pub const E = sys.E;
pub const SYS = sys.SYS;

/// What failed last: error values in Zig carry no data, and a launch error must name its cause.
pub const Failure = struct {
    errno: u32 = 0,
    stage: []const u8 = "",
    detail: []const u8 = "",
};
pub var failure: Failure = .{};

pub const Error = error{System};

fn word(value: anytype) u64 {
    const T = @TypeOf(value);
    return switch (@typeInfo(T)) {
        .pointer => @intFromPtr(value),
        .optional => if (value) |present| @intFromPtr(present) else 0,
        .int => |int| if (int.signedness == .signed)
            @bitCast(@as(i64, value))
        else
            @as(u64, value),
        .comptime_int => @bitCast(@as(i64, value)),
        else => @compileError("system call arguments are integers and pointers"),
    };
}

/// Makes one system call; the result is raw, negative numbers being errors.
pub inline fn raw(comptime number: SYS, args: anytype) usize {
    return switch (args.len) {
        0 => sys.syscall0(number),
        1 => sys.syscall1(number, word(args[0])),
        2 => sys.syscall2(number, word(args[0]), word(args[1])),
        3 => sys.syscall3(number, word(args[0]), word(args[1]), word(args[2])),
        4 => sys.syscall4(number, word(args[0]), word(args[1]), word(args[2]), word(args[3])),
        5 => sys.syscall5(
            number,
            word(args[0]),
            word(args[1]),
            word(args[2]),
            word(args[3]),
            word(args[4]),
        ),
        6 => sys.syscall6(
            number,
            word(args[0]),
            word(args[1]),
            word(args[2]),
            word(args[3]),
            word(args[4]),
            word(args[5]),
        ),
        else => @compileError("a system call takes at most six arguments"),
    };
}

pub fn errno(result: usize) E {
    return sys.errno(result);
}

pub fn failed(result: usize) bool {
    return sys.errno(result) != .SUCCESS;
}

/// Records what failed and turns a raw result into a value or an error.
pub fn check(result: usize, stage: []const u8, detail: []const u8) Error!usize {
    const code = sys.errno(result);
    if (code == .SUCCESS) return result;
    return fail(code, stage, detail);
}

/// The same for calls whose value says nothing.
pub fn must(result: usize, stage: []const u8, detail: []const u8) Error!void {
    _ = try check(result, stage, detail);
}

pub fn fail(code: E, stage: []const u8, detail: []const u8) Error {
    failure = .{ .errno = @backingInt(code), .stage = stage, .detail = detail };
    return error.System;
}

/// A descriptor result: checked, and narrowed to the type descriptors have.
pub fn descriptor(result: usize, stage: []const u8, detail: []const u8) Error!i32 {
    return @intCast(try check(result, stage, detail));
}

pub fn close(fd: i32) void {
    if (fd >= 0) _ = raw(.close, .{fd});
}

/// read(2) and friends repeated over EINTR.
pub fn again(result: usize) bool {
    return sys.errno(result) == .INTR;
}

pub fn exit(status: u8) noreturn {
    while (true) _ = raw(.exit_group, .{status});
}

pub fn now_ns(clock: u32) u64 {
    var time: Timespec = .{};
    _ = raw(.clock_gettime, .{ clock, &time });
    return @as(u64, @intCast(time.sec)) * 1_000_000_000 + @as(u64, @intCast(time.nsec));
}

pub const CLOCK_MONOTONIC = 1;

/// How far the launch got and when: sent to the host when ready, for `casemate bench`.
pub const Mark = enum(u32) {
    born,
    network,
    sources,
    memory,
    steps,
    devices,
    entered,
    identity,
    confined,
};
pub var marks: [std.enums.values(Mark).len]u64 = @splat(0);

pub fn mark(which: Mark) void {
    marks[@backingInt(which)] = now_ns(CLOCK_MONOTONIC);
}

pub const Timespec = extern struct { sec: i64 = 0, nsec: i64 = 0 };
pub const PollFd = extern struct { fd: i32, events: i16, revents: i16 = 0 };
pub const POLLIN = 1;
pub const POLLHUP = 16;
pub const POLLRDHUP = 0x2000;
pub const POLLERR = 8;

pub const AT_FDCWD: i32 = -100;
pub const AT_EMPTY_PATH = 0x1000;
pub const AT_RECURSIVE = 0x8000;
pub const AT_SYMLINK_NOFOLLOW = 0x100;
pub const AT_REMOVEDIR = 0x200;

pub const O_RDONLY = 0;
pub const O_WRONLY = 1;
pub const O_RDWR = 2;
pub const O_CREAT = 0o100;
pub const O_EXCL = 0o200;
pub const O_NOCTTY = 0o400;
pub const O_NONBLOCK = 0o4000;
pub const O_DIRECTORY: u32 = if (arm) 0o40000 else 0o200000;
pub const O_NOFOLLOW: u32 = if (arm) 0o100000 else 0o400000;
pub const O_CLOEXEC = 0o2000000;
pub const O_PATH = 0o10000000;
const arm = @import("builtin").cpu.arch == .aarch64;

pub const S_IFMT = 0o170000;
pub const S_IFDIR = 0o040000;
pub const S_IFREG = 0o100000;
pub const S_IFLNK = 0o120000;
pub const S_IFCHR = 0o020000;

/// struct stat as statx(2) gives it: the same on every architecture.
pub const Statx = sys.Statx;
pub const STATX_BASIC = 0x7ff;

pub fn statx(dir: i32, path: [*:0]const u8, flags: u32, out: *Statx) usize {
    return raw(.statx, .{ dir, path, flags, @as(u32, STATX_BASIC), out });
}

pub const OpenHow = extern struct { flags: u64, mode: u64 = 0, resolve: u64 = 0 };
pub const RESOLVE_NO_XDEV = 1;
pub const RESOLVE_NO_MAGICLINKS = 2;
pub const RESOLVE_NO_SYMLINKS = 4;
pub const RESOLVE_BENEATH = 8;

/// Opens beneath `dir`, following no link of any kind: what was planted earlier gains nothing.
pub fn open_beneath(dir: i32, path: [*:0]const u8, flags: u64) usize {
    const how: OpenHow = .{
        .flags = flags | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    return raw(.openat2, .{ dir, path, &how, @as(usize, @sizeOf(OpenHow)) });
}

// Mounts: open_tree(2), move_mount(2), mount_setattr(2), fsopen(2).
pub const OPEN_TREE_CLONE = 1;
pub const OPEN_TREE_CLOEXEC = O_CLOEXEC;
pub const MOVE_MOUNT_F_EMPTY_PATH = 4;
pub const MOVE_MOUNT_T_EMPTY_PATH = 0x40;
pub const MOUNT_ATTR_RDONLY = 1;
pub const MOUNT_ATTR_NOSUID = 2;
pub const MOUNT_ATTR_NODEV = 4;
pub const MOUNT_ATTR_NOEXEC = 8;
pub const MOUNT_ATTR_IDMAP = 0x100000;
pub const MountAttr = extern struct {
    attr_set: u64 = 0,
    attr_clr: u64 = 0,
    propagation: u64 = 0,
    userns_fd: u64 = 0,
};
pub const FSOPEN_CLOEXEC = 1;
pub const FSMOUNT_CLOEXEC = 1;
pub const FSCONFIG_SET_FLAG = 0;
pub const FSCONFIG_SET_STRING = 1;
pub const FSCONFIG_SET_FD = 5;
pub const FSCONFIG_CMD_CREATE = 6;
pub const MS_REC = 16384;
pub const MS_PRIVATE = 1 << 18;
pub const MNT_DETACH = 2;

// Namespaces: clone(2), unshare(2).
pub const CLONE_VM = 0x100;
pub const CLONE_CHILD_CLEARTID = 0x00200000;
pub const CLONE_NEWNS = 0x20000;
pub const CLONE_NEWCGROUP = 0x2000000;
pub const CLONE_NEWUTS = 0x4000000;
pub const CLONE_NEWIPC = 0x8000000;
pub const CLONE_NEWUSER = 0x10000000;
pub const CLONE_NEWPID = 0x20000000;
pub const CLONE_NEWNET = 0x40000000;
pub const SIGCHLD = 17;
pub const SIGCONT = 18;
pub const SIGKILL = 9;

/// fork(2) into new namespaces. Returns 0 in the child.
pub fn fork(flags: u64) usize {
    // aarch64 takes the last two arguments in the other order; all are zero, so one form serves.
    return raw(.clone, .{ flags | SIGCHLD, @as(u64, 0), @as(u64, 0), @as(u64, 0), @as(u64, 0) });
}

pub const CLONE_INTO_CGROUP = 0x200000000;
const CloneArguments = extern struct {
    flags: u64,
    pidfd: u64 = 0,
    child_tid: u64 = 0,
    parent_tid: u64 = 0,
    exit_signal: u64 = SIGCHLD,
    stack: u64 = 0,
    stack_size: u64 = 0,
    tls: u64 = 0,
    set_tid: u64 = 0,
    set_tid_size: u64 = 0,
    cgroup: u64,
};

/// fork(2) into new namespaces and a version 2 control group. Returns 0 in the child.
pub fn fork_into(flags: u64, group: i32) usize {
    const arguments: CloneArguments = .{
        .flags = flags | CLONE_INTO_CGROUP,
        .cgroup = @intCast(group),
    };
    return raw(.clone3, .{ &arguments, @as(usize, @sizeOf(CloneArguments)) });
}

// prctl(2).
pub const PR_SET_PDEATHSIG = 1;
pub const PR_SET_DUMPABLE = 4;
pub const PR_SET_SECCOMP = 22;
pub const PR_CAPBSET_DROP = 24;
pub const PR_SET_SECUREBITS = 28;
pub const PR_SET_NO_NEW_PRIVS = 38;
pub const PR_SET_CHILD_SUBREAPER = 36;
pub const PR_CAP_AMBIENT = 47;
pub const PR_CAP_AMBIENT_CLEAR_ALL = 4;

pub fn prctl(option: u32, a: u64, b: u64) usize {
    return raw(.prctl, .{ option, a, b, @as(u64, 0), @as(u64, 0) });
}

pub const CapHeader = extern struct { version: u32 = 0x20080522, pid: i32 = 0 };
pub const CapData = extern struct { effective: u32 = 0, permitted: u32 = 0, inheritable: u32 = 0 };

pub const Rlimit = extern struct { soft: u64, hard: u64 };
pub const RLIMIT_CORE = 4;
pub const RLIMIT_NOFILE = 7;

// Sockets: recvmsg(2), cmsg(3), unix(7).
pub const IoVec = extern struct { base: [*]const u8, len: usize };
pub const Message = extern struct {
    name: ?*const anyopaque = null,
    name_length: u32 = 0,
    vectors: [*]const IoVec,
    vector_count: usize,
    control: ?*anyopaque = null,
    control_length: usize = 0,
    flags: u32 = 0,
};
pub const ControlHeader = extern struct { length: usize, level: i32, type: i32 };
pub const SOL_SOCKET = 1;
pub const SCM_RIGHTS = 1;
pub const MSG_NOSIGNAL = 0x4000;
pub const MSG_CMSG_CLOEXEC = 0x40000000;
pub const MSG_CTRUNC = 8;
pub const AF_UNIX = 1;
pub const AF_INET = 2;
pub const AF_INET6 = 10;
pub const AF_NETLINK = 16;
pub const SOCK_STREAM = 1;
pub const SOCK_DGRAM = 2;
pub const SOCK_RAW = 3;
pub const SOCK_CLOEXEC = O_CLOEXEC;

// ioctl(2): tty_ioctl(4), pty(7), netdevice(7).
pub const TIOCSCTTY = 0x540E;
pub const TIOCSWINSZ = 0x5414;
pub const TIOCSPTLCK = 0x40045431;
pub const TIOCGPTPEER = 0x5441;
pub const SIOCGIFFLAGS = 0x8913;
pub const SIOCSIFFLAGS = 0x8914;
pub const WindowSize = extern struct { rows: u16, columns: u16, x: u16 = 0, y: u16 = 0 };

// Landlock: landlock(7).
pub const LANDLOCK_CREATE_RULESET_VERSION = 1;
pub const LANDLOCK_RULE_PATH_BENEATH = 1;
pub const LandlockRuleset = extern struct { fs: u64, net: u64 = 0, scoped: u64 = 0 };
pub const LandlockPath = extern struct { access: u64 align(4), parent: i32 };

// Signals: the kernel's own layout, rt_sigaction(2).
pub const KernelSigaction = extern struct {
    handler: usize = 0,
    flags: u64 = 0,
    restorer: usize = 0,
    mask: u64 = 0,
};
pub const SIG_BLOCK = 0;
pub const SIG_SETMASK = 2;

pub fn signal_mask(how: u32, mask: u64) void {
    _ = raw(.rt_sigprocmask, .{ how, &mask, @as(?*u64, null), @as(usize, 8) });
}

pub const TimeValue = extern struct { sec: i64, usec: i64 };
pub const Rusage = extern struct {
    user: TimeValue,
    system: TimeValue,
    max_resident_kib: i64,
    rest: [13]i64,
};

pub const StatFs = extern struct {
    type: i64,
    block_size: i64,
    blocks: u64,
    blocks_free: u64,
    blocks_available: u64,
    files: u64,
    files_free: u64,
    rest: [8]u64,
};

comptime {
    std.debug.assert(@sizeOf(LandlockPath) == 12);
    std.debug.assert(@sizeOf(MountAttr) == 32);
    std.debug.assert(@sizeOf(Message) == 56);
    std.debug.assert(@sizeOf(Rusage) == 144);
    std.debug.assert(@sizeOf(StatFs) == 120);
    std.debug.assert(@sizeOf(Statx) == 256);
}
