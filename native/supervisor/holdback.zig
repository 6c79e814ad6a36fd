//! Direct mode: protected files that did not exist when the session began.
//!
//! A mount can cover only what exists. What appeared meanwhile under a protected name is taken out
//! of the project when the session ends and put into the change archive, where it waits for the
//! user to apply it by name. The keeper does this after every process inside is dead.

const std = @import("std");
const linux = @import("linux.zig");
const archive = @import("archive.zig");
const mounts = @import("mounts.zig");
const pattern = @import("pattern.zig");
const scan = @import("scan.zig");
const spec_module = @import("spec.zig");
const trees = @import("trees.zig");
const Spec = spec_module.Spec;

const slots = 1 << 17;
const known_max = slots / 2;

/// Hashes of the protected paths there were at the start; zero is an empty slot.
var known: [slots]u64 = @splat(0);
var known_count: usize = 0;

const Hash = std.crypto.auth.siphash.SipHash64(2, 4);

/// Random, so that nobody inside can make a path that is taken for a known one.
var key: [Hash.key_length]u8 = undefined;

fn hash(index: u8, path: *const pattern.Path) u64 {
    var state = Hash.init(&key);
    state.update(&.{index});
    for (path.parts[0..path.count]) |part| {
        state.update(part);
        state.update("/");
    }
    const value = state.finalInt();
    return if (value == 0) 1 else value;
}

fn remember(value: u64) void {
    var at: usize = @intCast(value % slots);
    while (known[at] != 0) : (at = (at + 1) % slots) if (known[at] == value) return;
    known[at] = value;
    known_count += 1;
}

fn remembered(value: u64) bool {
    var at: usize = @intCast(value % slots);
    while (known[at] != 0) : (at = (at + 1) % slots) if (known[at] == value) return true;
    return false;
}

const Recorder = struct {
    index: u8,

    pub fn entered(_: *Recorder, _: *scan.Walk) linux.Error!void {}
    pub fn left(_: *Recorder, _: *scan.Walk) void {}

    pub fn found(self: *Recorder, walk: *scan.Walk, _: scan.Match, _: bool) linux.Error!void {
        if (known_count >= known_max) return linux.fail(.NFILE, "protect", "too many paths");
        remember(hash(self.index, &walk.path));
    }
};

/// Remembers what is protected now. Called before the sandbox exists.
pub fn record(spec: *const Spec) linux.Error!void {
    const random = linux.raw(.getrandom, .{ &key, key.len, @as(u32, 0) });
    _ = try linux.check(random, "draw a random number", "");
    var reader = spec.steps;
    for (0..spec.steps_count) |_| switch (mounts.step(&reader)) {
        .root => |root| if (root.mode == .direct) {
            var recorder: Recorder = .{ .index = root.index };
            try walk_root(spec, root.source, &recorder);
        },
        else => {},
    };
}

fn walk_root(spec: *const Spec, source: [:0]const u8, handler: anytype) linux.Error!void {
    const opened = scan.open_directory(linux.AT_FDCWD, source, true) orelse
        return linux.fail(.ACCES, "open project", source);
    defer opened.close();
    // What is hidden is looked into as well: a name that is hidden covers nothing that is new.
    var walk: scan.Walk = .{ .hide = &.{}, .protect = spec.protect, .force = true };
    try scan.run(&walk, opened.fd, handler);
}

const Collector = struct {
    index: u8,
    output: *archive.Output,
    /// Which directories on the way down are in the archive already.
    written: [pattern.depth_max + 1]bool = @splat(false),
    failed: bool = false,

    pub fn entered(_: *Collector, _: *scan.Walk) linux.Error!void {}

    pub fn left(self: *Collector, walk: *scan.Walk) void {
        self.written[walk.path.count] = false;
    }

    pub fn found(self: *Collector, walk: *scan.Walk, _: scan.Match, _: bool) linux.Error!void {
        if (remembered(hash(self.index, &walk.path))) return;
        if (!self.failed) if (self.collect(walk)) return else |_| {
            self.failed = true;
        };
        // Nothing more can be saved: what is left behind must at least be obeyed by nobody.
        const last = walk.path.count - 1;
        const name: [*:0]const u8 = @ptrCast(walk.path.parts[last].ptr);
        if (!trees.disarm(walk.directories[last], std.mem.span(name))) {
            return linux.fail(.IO, "hold back", std.mem.span(name));
        }
    }

    fn collect(self: *Collector, walk: *scan.Walk) archive.Error!void {
        const last = walk.path.count - 1;
        var out: archive.Walk = .{ .output = self.output, .root = self.index };
        for (0..last + 1) |depth| {
            if (depth > 0 and !out.push(walk.path.parts[depth - 1])) return error.Read;
            if (self.written[depth]) continue;
            try archive.directory_record(&out, walk.directories[depth]);
            self.written[depth] = true;
        }
        const name: [*:0]const u8 = @ptrCast(walk.path.parts[last].ptr);
        const text = std.mem.span(name);
        try archive.entry(&out, walk.directories[last], text);
        // Only what is safely in the archive is taken away.
        try self.output.flush();
        trees.remove(walk.directories[last], text);
    }
};

/// Moves what appeared into the archive being written.
pub fn collect(spec: *const Spec, output: *archive.Output) archive.Error!void {
    var reader = spec.steps;
    for (0..spec.steps_count) |_| switch (mounts.step(&reader)) {
        .root => |root| if (root.mode == .direct) {
            var collector: Collector = .{ .index = root.index, .output = output };
            walk_root(spec, root.source, &collector) catch return error.Read;
            if (collector.failed) return error.Write;
        },
        else => {},
    };
}

/// Whether the plan has a root of this kind.
pub fn concerns(spec: *const Spec) bool {
    if (spec.protect.len == 0) return false;
    var reader = spec.steps;
    for (0..spec.steps_count) |_| switch (mounts.step(&reader)) {
        .root => |root| if (root.mode == .direct) return true,
        else => {},
    };
    return false;
}
