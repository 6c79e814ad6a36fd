//! The last steps before serving: descriptors in their places, and word to the host.

const std = @import("std");
const linux = @import("linux.zig");
const wire = @import("wire.zig");
const confine = @import("confine.zig");
const Spec = @import("spec.zig").Spec;

/// Where casemate leaves the supervisor its socket.
pub const socket = 3;

pub const Descriptors = struct { upper: i32, null_device: i32, signals: i32 };

/// Keeps what serving needs at fixed numbers and closes everything else.
pub fn settle_descriptors(upper: i32) linux.Error!Descriptors {
    const flags: u32 = linux.O_RDWR | linux.O_CLOEXEC;
    const opened = linux.raw(.openat, .{ linux.AT_FDCWD, "/dev/null", flags, @as(u32, 0) });
    const null_device = try linux.descriptor(opened, "open", "/dev/null");
    const mask: u64 = 1 << (linux.SIGCHLD - 1);
    const any: i32 = -1;
    const signal_flags: u32 = linux.O_CLOEXEC | linux.O_NONBLOCK;
    const made = linux.raw(.signalfd4, .{ any, &mask, @as(usize, 8), signal_flags });
    const signals = try linux.descriptor(made, "watch children", "");
    const base = socket + 1;
    const F_DUPFD_CLOEXEC: u32 = 1030;
    const high: u32 = 600;
    const sources = [_]i32{ upper, null_device, signals };
    for (sources, 0..) |fd, i| {
        if (fd < 0) continue;
        const copied = linux.raw(.fcntl, .{ fd, F_DUPFD_CLOEXEC, high });
        const copy = try linux.descriptor(copied, "duplicate", "");
        const target: u32 = @intCast(base + i);
        const cloexec: u32 = linux.O_CLOEXEC;
        _ = try linux.check(linux.raw(.dup3, .{ copy, target, cloexec }), "duplicate", "");
        linux.close(copy);
    }
    const first: u32 = base + sources.len;
    const last: u32 = std.math.maxInt(u32);
    const closed = linux.raw(.close_range, .{ first, last, @as(u32, 0) });
    try linux.must(closed, "close descriptors", "");
    for ([_]u32{ 0, 1, 2 }) |target| {
        const null_fd: i32 = base + 1;
        const placed = linux.raw(.dup3, .{ null_fd, target, @as(u32, 0) });
        try linux.must(placed, "let go of standard streams", "");
    }
    const close_on_exec: u32 = 1;
    const F_SETFD: u32 = 2;
    const kept = linux.raw(.fcntl, .{ @as(i32, socket), F_SETFD, close_on_exec });
    try linux.must(kept, "keep the socket from commands", "");
    return .{ .upper = if (upper < 0) -1 else base, .null_device = base + 1, .signals = base + 2 };
}

pub fn raise_oom_score(spec: *const Spec) linux.Error!void {
    if (spec.oom_score == 0) return;
    var text: [16]u8 = undefined;
    const value = std.fmt.bufPrint(&text, "{d}", .{spec.oom_score}) catch linux.exit(125);
    try linux.must(linux.prctl(linux.PR_SET_DUMPABLE, 1, 0), "become dumpable", "");
    try confine.write_file("/proc/self/oom_score_adj", value);
    try linux.must(linux.prctl(linux.PR_SET_DUMPABLE, 0, 0), "become undumpable", "");
}

/// Sends READY.
pub fn announce(spec: *const Spec, landlock: u32, hidden: u32) void {
    var writer: wire.Writer = .{};
    writer.int(u32, landlock);
    writer.int(u32, spec.flags);
    writer.int(u32, hidden);
    writer.int(u32, linux.marks.len - 1);
    for (linux.marks[1..], linux.marks[0 .. linux.marks.len - 1]) |after, before| {
        writer.int(u32, @intCast(@min((after - before) / 1000, std.math.maxInt(u32))));
    }
    _ = writer.send(socket, wire.Type.ready, null);
}
