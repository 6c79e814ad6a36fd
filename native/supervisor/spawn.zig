//! Starts one command inside the sandbox. The child shares the supervisor's memory until it
//! executes, so it only touches what `Child` gives it and makes system calls.
//! Sources: clone(2) on CLONE_VM, execve(2), setsid(2), tty_ioctl(4).

const std = @import("std");
const linux = @import("linux.zig");
const wire = @import("wire.zig");

pub const arguments_max = 1 << 16;

pub const Flags = struct {
    pub const terminal = 1;
    pub const stdin = 2;
    pub const stdout = 4;
    pub const stderr = 8;
    pub const all = 15;
};

pub const Request = struct {
    id: u32,
    flags: u32,
    rows: u16,
    columns: u16,
    time_limit_ms: u64,
    limits: wire.Reader,
    directory: [:0]u8,
    argv: [*:null]const ?[*:0]const u8,
    envp: [*:null]const ?[*:0]const u8,
    stdio: [3]i32,
};

pub const Outcome = union(enum) {
    started: struct { pid: i32, terminal: i32 },
    failed: u32,
};

/// Static: argument vectors are as large as the kernel allows, and rebuilt for each command.
var pointers: [arguments_max + 2]?[*:0]const u8 = undefined;

pub fn parse(frame: wire.Frame) wire.Malformed!Request {
    var reader: wire.Reader = .{ .bytes = frame.payload };
    var request: Request = undefined;
    request.id = try reader.int(u32);
    request.flags = try reader.int(u32);
    if (request.flags & ~@as(u32, Flags.all) != 0) return error.Malformed;
    request.rows = try reader.int(u16);
    request.columns = try reader.int(u16);
    request.time_limit_ms = try reader.int(u64);
    const limits_count = try reader.int(u32);
    if (limits_count > 32) return error.Malformed;
    request.limits = .{ .bytes = try reader.take(limits_count * 20) };
    request.directory = try reader.text();
    const argc = try reader.int(u32);
    const envc = try reader.int(u32);
    if (argc == 0 or @as(u64, argc) + envc > arguments_max) return error.Malformed;
    for (0..argc) |i| pointers[i] = try reader.text();
    pointers[argc] = null;
    for (0..envc) |i| pointers[argc + 1 + i] = try reader.text();
    pointers[argc + 1 + envc] = null;
    request.argv = @ptrCast(&pointers);
    request.envp = @ptrCast(&pointers[argc + 1]);
    try reader.finish();
    try assign_descriptors(&request, frame.descriptors);
    return request;
}

fn assign_descriptors(request: *Request, descriptors: []const i32) wire.Malformed!void {
    var next: usize = 0;
    inline for (.{ Flags.stdin, Flags.stdout, Flags.stderr }, 0..) |flag, i| {
        request.stdio[i] = -1;
        if (request.flags & flag != 0) {
            if (next == descriptors.len) return error.Malformed;
            request.stdio[i] = descriptors[next];
            next += 1;
        }
    }
    if (next != descriptors.len) return error.Malformed;
}

const Child = struct {
    request: *const Request,
    terminal: i32,
    null_device: i32,
    session_limits: wire.Reader,
    errno: u32 = 0,
};

var stack: [64 << 10]u8 align(16) = undefined;

pub fn start(request: *const Request, null_device: i32, session_limits: wire.Reader) Outcome {
    var master: i32 = -1;
    var child: Child = .{
        .request = request,
        .terminal = -1,
        .null_device = null_device,
        .session_limits = session_limits,
    };
    if (request.flags & Flags.terminal != 0) {
        master = open_terminal(request, &child.terminal) catch
            return .{ .failed = linux.failure.errno };
    }
    const top = @intFromPtr(&stack) + stack.len;
    const flags = linux.CLONE_VM | linux.CLONE_CHILD_CLEARTID | linux.SIGCHLD;
    sharing = 1;
    const result = linux.sys.clone(run, top, flags, @intFromPtr(&child), null, 0, &sharing);
    if (!linux.failed(result)) wait_for_exec(@intCast(result));
    linux.close(child.terminal);
    if (linux.failed(result)) {
        linux.close(master);
        return .{ .failed = @backingInt(linux.errno(result)) };
    }
    if (child.errno != 0) {
        reap(@intCast(result));
        linux.close(master);
        return .{ .failed = child.errno };
    }
    return .{ .started = .{ .pid = @intCast(result), .terminal = master } };
}

/// Not zero while the child uses this memory; the kernel sets it when that ends. set_tid_address(2)
var sharing: i32 = 0;

/// What CLONE_VFORK does, but for this: a hostile process that stops each new one at birth would
/// hold up a parent that waits in the kernel, and so the whole session.
fn wait_for_exec(pid: i32) void {
    while (@atomicLoad(i32, &sharing, .acquire) != 0) {
        const timeout: linux.Timespec = .{ .nsec = 2_000_000 };
        const futex_wait: u32 = 0;
        const none: ?*u32 = null;
        const zero: u32 = 0;
        const one: i32 = 1;
        const result = linux.raw(.futex, .{ &sharing, futex_wait, one, &timeout, none, zero });
        if (linux.errno(result) != .TIMEDOUT) continue;
        // Whoever stopped it can do so again: every time it comes a little further.
        _ = linux.raw(.kill, .{ pid, @as(u32, linux.SIGCONT) });
    }
}

fn reap(pid: i32) void {
    const none: ?*u32 = null;
    const flags: u32 = 0;
    while (linux.again(linux.raw(.wait4, .{ pid, none, flags, none }))) {}
}

fn open_terminal(request: *const Request, slave: *i32) linux.Error!i32 {
    const flags: u32 = linux.O_RDWR | linux.O_NOCTTY | linux.O_CLOEXEC;
    const path = "/dev/ptmx";
    const opened = linux.raw(.openat, .{ linux.AT_FDCWD, path, flags, @as(u32, 0) });
    const master = try linux.descriptor(opened, "open terminal", path);
    errdefer linux.close(master);
    const unlocked: i32 = 0;
    const unlock: u32 = linux.TIOCSPTLCK;
    _ = try linux.check(linux.raw(.ioctl, .{ master, unlock, &unlocked }), "unlock terminal", "");
    resize(master, request.rows, request.columns);
    const peer: u32 = linux.TIOCGPTPEER;
    slave.* = try linux.descriptor(
        linux.raw(.ioctl, .{ master, peer, flags }),
        "open terminal",
        "peer",
    );
    return master;
}

pub fn resize(master: i32, rows: u16, columns: u16) void {
    const size: linux.WindowSize = .{ .rows = rows, .columns = columns };
    const set: u32 = linux.TIOCSWINSZ;
    // A terminal that is gone has no size.
    _ = linux.raw(.ioctl, .{ master, set, &size });
}

fn run(argument: usize) callconv(.c) u8 {
    const child: *Child = @ptrFromInt(argument);
    prepare(child) catch {
        child.errno = linux.failure.errno;
        return 127;
    };
    child.errno = execute(child.request);
    return 127;
}

fn prepare(child: *Child) linux.Error!void {
    const request = child.request;
    _ = try linux.check(linux.raw(.setsid, .{}), "start session", "");
    reset_signals();
    var stdio = request.stdio;
    for (&stdio) |*fd| {
        if (fd.* < 0) fd.* = if (child.terminal >= 0) child.terminal else child.null_device;
    }
    try place_descriptors(stdio);
    if (child.terminal >= 0) {
        const terminal = for (0..3) |i| {
            if (request.stdio[i] < 0) break i;
        } else 0;
        const control: u32 = linux.TIOCSCTTY;
        const fd: i32 = @intCast(terminal);
        _ = try linux.check(linux.raw(.ioctl, .{ fd, control, @as(u32, 0) }), "take terminal", "");
    }
    try set_limits(child.session_limits);
    try set_limits(request.limits);
    const change = linux.raw(.chdir, .{request.directory.ptr});
    _ = try linux.check(change, "enter", request.directory);
}

/// dup2 in two rounds: a descriptor's number may be one of the targets.
fn place_descriptors(stdio: [3]i32) linux.Error!void {
    var high: [3]i32 = undefined;
    const F_DUPFD: u32 = 0;
    for (stdio, 0..) |fd, i| {
        const floor: u32 = 10;
        const copied = linux.raw(.fcntl, .{ fd, F_DUPFD, floor });
        high[i] = try linux.descriptor(copied, "duplicate", "");
    }
    for (high, 0..) |fd, i| {
        const target: u32 = @intCast(i);
        _ = try linux.check(linux.raw(.dup3, .{ fd, target, @as(u32, 0) }), "duplicate", "");
    }
    const last: u32 = std.math.maxInt(u32);
    const first: u32 = 3;
    const closed = linux.raw(.close_range, .{ first, last, @as(u32, 0) });
    _ = try linux.check(closed, "close descriptors", "");
}

fn reset_signals() void {
    const default: linux.KernelSigaction = .{};
    var signal: u32 = 1;
    while (signal <= 64) : (signal += 1) {
        const none: ?*u8 = null;
        // Refused for the two signals that nobody can change.
        _ = linux.raw(.rt_sigaction, .{ signal, &default, none, @as(usize, 8) });
    }
    linux.signal_mask(linux.SIG_SETMASK, 0);
}

/// Limits bind commands, not the supervisor: it must be able to start one more when the agent has
/// used up what it may.
fn set_limits(limits: wire.Reader) linux.Error!void {
    var reader = limits;
    while (reader.at < reader.bytes.len) {
        const resource = reader.int(u32) catch return;
        const soft = reader.int(u64) catch return;
        const hard = reader.int(u64) catch return;
        try set_limit(resource, .{ .soft = soft, .hard = hard });
    }
}

/// A limit the caller of casemate is under already may be lower, and then it stands. prlimit(2)
fn set_limit(resource: u32, wanted: linux.Rlimit) linux.Error!void {
    const none: ?*u8 = null;
    const self: i32 = 0;
    const result = linux.raw(.prlimit64, .{ self, resource, &wanted, none });
    if (linux.errno(result) != .PERM) return linux.must(result, "set resource limit", "");
    var present: linux.Rlimit = undefined;
    const read = linux.raw(.prlimit64, .{ self, resource, none, &present });
    try linux.must(read, "read resource limit", "");
    const limit: linux.Rlimit = .{
        .soft = @min(wanted.soft, present.hard),
        .hard = @min(wanted.hard, present.hard),
    };
    const again = linux.raw(.prlimit64, .{ self, resource, &limit, none });
    try linux.must(again, "set resource limit", "");
}

/// execvp(3): a name without a slash is looked for along PATH; a file the kernel does not know
/// as a program is given to the shell.
fn execute(request: *const Request) u32 {
    const name = std.mem.span(request.argv[0].?);
    if (name.len == 0) return @backingInt(linux.E.NOENT);
    if (std.mem.findScalar(u8, name, '/') != null) return attempt(request, name);
    var worst: u32 = @backingInt(linux.E.NOENT);
    var candidate: [4096]u8 = undefined;
    var directories = std.mem.splitScalar(u8, search_path(request.envp), ':');
    while (directories.next()) |part| {
        const directory = if (part.len == 0) "." else part;
        if (directory.len + name.len + 2 > candidate.len) continue;
        const path = std.fmt.bufPrintSentinel(&candidate, "{s}/{s}", .{ directory, name }, 0) catch
            continue;
        const code = attempt(request, path);
        if (code == @backingInt(linux.E.ACCES)) worst = code;
        if (code != @backingInt(linux.E.NOENT) and code != @backingInt(linux.E.NOTDIR) and
            code != @backingInt(linux.E.ACCES)) return code;
    }
    return worst;
}

fn search_path(envp: [*:null]const ?[*:0]const u8) []const u8 {
    var i: usize = 0;
    while (envp[i]) |entry| : (i += 1) {
        const text = std.mem.span(entry);
        if (std.mem.startsWith(u8, text, "PATH=")) return text[5..];
    }
    return "/usr/local/bin:/usr/bin:/bin";
}

fn attempt(request: *const Request, path: [:0]const u8) u32 {
    const result = linux.raw(.execve, .{ path.ptr, request.argv, request.envp });
    const code = linux.errno(result);
    if (code != .NOEXEC) return @backingInt(code);
    var count: usize = 0;
    while (request.argv[count] != null) count += 1;
    const shell = "/bin/sh";
    // The vector is the supervisor's own copy for this command, with room kept at its end.
    var vector: [1024]?[*:0]const u8 = undefined;
    if (count + 2 > vector.len) return @backingInt(code);
    vector[0] = shell;
    vector[1] = path.ptr;
    for (1..count + 1) |i| vector[i + 1] = request.argv[i];
    const retried = linux.raw(.execve, .{ shell, &vector, request.envp });
    return @backingInt(linux.errno(retried));
}
