//! The last steps before serving: descriptors in their places, and word to the host.

const std = @import("std");
const linux = @import("linux.zig");
const wire = @import("wire.zig");
const confine = @import("confine.zig");
const spec_module = @import("spec.zig");
const Watch = @import("watch.zig").Watch;
const Spec = spec_module.Spec;

/// Where casemate leaves the supervisor its socket.
pub const socket = 3;

pub const Descriptors = struct { upper: i32, null_device: i32, signals: i32 };

/// Keeps what serving needs at fixed numbers and closes everything else. Upper and the watch's
/// own may be -1, and stay so.
pub fn settle_descriptors(upper: i32, watch: *Watch) linux.Error!Descriptors {
    const flags: u32 = linux.O_RDWR | linux.O_CLOEXEC;
    const opened = linux.raw(.openat, .{ linux.AT_FDCWD, "/dev/null", flags, @as(u32, 0) });
    var kept: Descriptors = .{ .upper = upper, .null_device = -1, .signals = -1 };
    kept.null_device = try linux.descriptor(opened, "open", "/dev/null");
    kept.signals = try watch_children();
    var places: [wanted_max]*i32 = undefined;
    var count: usize = 0;
    for ([_]*i32{ &kept.upper, &kept.null_device, &kept.signals }) |place| {
        places[count] = place;
        count += 1;
    }
    for (&watch.roots) |*root| {
        places[count] = &root.lower;
        count += 1;
    }
    const next = try renumber(places[0..count]);
    const last: u32 = std.math.maxInt(u32);
    const closed = linux.raw(.close_range, .{ next, last, @as(u32, 0) });
    try linux.must(closed, "close descriptors", "");
    for ([_]u32{ 0, 1, 2 }) |target| {
        const placed = linux.raw(.dup3, .{ kept.null_device, target, @as(u32, 0) });
        try linux.must(placed, "let go of standard streams", "");
    }
    const close_on_exec: u32 = 1;
    const F_SETFD: u32 = 2;
    const marked = linux.raw(.fcntl, .{ @as(i32, socket), F_SETFD, close_on_exec });
    try linux.must(marked, "keep the socket from commands", "");
    return kept;
}

const wanted_max = 3 + spec_module.roots_max;

fn watch_children() linux.Error!i32 {
    const mask: u64 = 1 << (linux.SIGCHLD - 1);
    const any: i32 = -1;
    const flags: u32 = linux.O_CLOEXEC | linux.O_NONBLOCK;
    const made = linux.raw(.signalfd4, .{ any, &mask, @as(usize, 8), flags });
    return linux.descriptor(made, "watch children", "");
}

/// Moves descriptors down to the numbers after the socket's: up first, out of each other's way.
fn renumber(places: []const *i32) linux.Error!u32 {
    const F_DUPFD_CLOEXEC: u32 = 1030;
    const high: u32 = 600;
    for (places) |place| {
        if (place.* < 0) continue;
        const copied = linux.raw(.fcntl, .{ place.*, F_DUPFD_CLOEXEC, high });
        place.* = try linux.descriptor(copied, "duplicate", "");
    }
    var next: u32 = socket + 1;
    for (places) |place| {
        if (place.* < 0) continue;
        const cloexec: u32 = linux.O_CLOEXEC;
        try linux.must(linux.raw(.dup3, .{ place.*, next, cloexec }), "duplicate", "");
        place.* = @intCast(next);
        next += 1;
    }
    return next;
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
