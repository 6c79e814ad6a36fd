//! The launch specification: what INIT carries. The layout is docs/protocol.md.
//! The supervisor adds nothing of its own to it but /dev and /proc.

const std = @import("std");
const wire = @import("wire.zig");
const pattern = @import("pattern.zig");

pub const version = 2;

pub const Flags = struct {
    /// A file for the change archive comes with the specification.
    pub const layer = 1;
    /// Started as root: build with root's powers, then take the outside identity.
    pub const root = 2;
    /// Give overlay layers to the kernel as strings, as on kernels before 6.13: for tests.
    pub const string_layers = 4;
    /// No namespaces: Landlock and seccomp alone.
    pub const bare = 8;
};

pub const RootMode = enum(u8) { overlay = 0, direct = 1, readonly = 2 };

pub const Step = union(enum) {
    directory: struct { target: [:0]u8, mode: u32 },
    symlink: struct { target: [:0]u8, destination: [:0]u8 },
    file: struct { target: [:0]u8, mode: u32, content: []const u8 },
    bind: struct { source: [:0]u8, target: [:0]u8, writable: bool, owned: bool, directory: bool },
    scratch: struct { target: [:0]u8, mode: u32 },
    root: struct { source: [:0]u8, target: [:0]u8, mode: RootMode, index: u8 },
    mask: struct { target: [:0]u8 },
    /// A file known only when the session starts.
    late: struct { target: [:0]u8, mode: u32, content: []const u8, cover: bool },
};

pub const steps_max = 480;
pub const roots_max = 16;
pub const patterns_max = 512;
pub const groups_max = 8;
pub const listeners_max = 128;

pub const Group = struct {
    directory: [:0]u8,
    settings: wire.Reader,
    settings_count: u32,
};

pub const Spec = struct {
    flags: u32,
    inside_uid: u32,
    inside_gid: u32,
    outside_uid: u32,
    outside_gid: u32,
    project_uid: u32,
    project_gid: u32,
    disk_bytes: u64,
    disk_files: u64,
    scratch_bytes: u64,
    scratch_files: u64,
    time_limit_ms: u64,
    memory_watch: u64,
    space_watch_bytes: u64,
    space_watch_files: u64,
    oom_score: u32,
    hostname: [:0]u8,
    /// Without mounts: the directory that stands for /tmp and the home. Empty otherwise.
    scratch: [:0]u8,
    affinity: []u8,
    filter: []u8,
    limits: wire.Reader,
    listeners: wire.Reader,
    listeners_count: u32,
    groups: [groups_max]Group,
    groups_count: u32,
    hide: pattern.List,
    protect: pattern.List,
    steps: wire.Reader,
    steps_count: u32,

    pub fn has(spec: *const Spec, flag: u32) bool {
        return spec.flags & flag != 0;
    }
};

var hide_storage: [patterns_max]pattern.Pattern = undefined;
var protect_storage: [patterns_max]pattern.Pattern = undefined;

pub fn parse(payload: []u8, spec: *Spec) wire.Malformed!void {
    var reader: wire.Reader = .{ .bytes = payload };
    if (try reader.int(u32) != version) return error.Malformed;
    spec.flags = try reader.int(u32);
    spec.inside_uid = try reader.int(u32);
    spec.inside_gid = try reader.int(u32);
    spec.outside_uid = try reader.int(u32);
    spec.outside_gid = try reader.int(u32);
    spec.project_uid = try reader.int(u32);
    spec.project_gid = try reader.int(u32);
    spec.disk_bytes = try reader.int(u64);
    spec.disk_files = try reader.int(u64);
    spec.scratch_bytes = try reader.int(u64);
    spec.scratch_files = try reader.int(u64);
    spec.time_limit_ms = try reader.int(u64);
    spec.memory_watch = try reader.int(u64);
    spec.space_watch_bytes = try reader.int(u64);
    spec.space_watch_files = try reader.int(u64);
    spec.oom_score = try reader.int(u32);
    spec.hostname = try reader.text();
    spec.scratch = try reader.text();
    try parse_groups(&reader, spec);
    spec.affinity = try reader.string();
    spec.filter = try reader.string();
    if (spec.filter.len % 8 != 0 or spec.filter.len == 0) return error.Malformed;
    const limits_count = try reader.int(u32);
    if (limits_count > 32) return error.Malformed;
    spec.limits = .{ .bytes = try reader.take(limits_count * 20) };
    spec.listeners_count = try reader.int(u32);
    if (spec.listeners_count > listeners_max) return error.Malformed;
    spec.listeners = .{ .bytes = try reader.take(spec.listeners_count * 3) };
    spec.hide = try parse_patterns(&reader, &hide_storage);
    spec.protect = try parse_patterns(&reader, &protect_storage);
    spec.steps_count = try reader.int(u32);
    if (spec.steps_count > steps_max) return error.Malformed;
    spec.steps = reader;
    for (0..spec.steps_count) |_| _ = try next_step(&reader);
    try reader.finish();
}

fn parse_groups(reader: *wire.Reader, spec: *Spec) wire.Malformed!void {
    spec.groups_count = try reader.int(u32);
    if (spec.groups_count > groups_max) return error.Malformed;
    for (spec.groups[0..spec.groups_count]) |*group| {
        group.directory = try reader.text();
        group.settings_count = try reader.int(u32);
        if (group.settings_count > 16) return error.Malformed;
        group.settings = reader.*;
        for (0..group.settings_count * 2) |_| _ = try reader.text();
    }
}

fn parse_patterns(reader: *wire.Reader, storage: []pattern.Pattern) wire.Malformed!pattern.List {
    const count = try reader.int(u32);
    if (count > storage.len) return error.Malformed;
    for (storage[0..count]) |*item| {
        const flags = try reader.int(u8);
        const segments = try reader.int(u8);
        if (segments == 0 or segments > pattern.segments_max) return error.Malformed;
        item.negated = flags & 1 != 0;
        item.directory_only = flags & 2 != 0;
        item.count = segments;
        for (item.segments[0..segments]) |*segment| segment.* = try reader.text();
        pattern.prepare(item);
    }
    return storage[0..count];
}

/// Reads one step; the caller knows how many there are.
pub fn next_step(reader: *wire.Reader) wire.Malformed!Step {
    switch (try reader.int(u8)) {
        1 => return .{ .directory = .{ .mode = try reader.int(u32), .target = try path(reader) } },
        2 => return .{ .symlink = .{
            .target = try path(reader),
            .destination = try reader.text(),
        } },
        3 => return .{ .file = .{
            .mode = try reader.int(u32),
            .target = try path(reader),
            .content = try reader.string(),
        } },
        4 => {
            const flags = try reader.int(u8);
            return .{ .bind = .{
                .writable = flags & 1 != 0,
                .owned = flags & 2 != 0,
                .directory = flags & 4 != 0,
                .source = try path(reader),
                .target = try path(reader),
            } };
        },
        5 => return .{ .scratch = .{ .mode = try reader.int(u32), .target = try path(reader) } },
        6 => {
            const mode = try reader.int(u8);
            const index = try reader.int(u8);
            if (mode > 2 or index >= roots_max) return error.Malformed;
            return .{ .root = .{
                .mode = @fromBackingInt(@as(u8, mode)),
                .index = index,
                .source = try path(reader),
                .target = try path(reader),
            } };
        },
        7 => return .{ .mask = .{ .target = try path(reader) } },
        8 => {
            const flags = try reader.int(u8);
            return .{ .late = .{
                .cover = flags & 1 != 0,
                .mode = try reader.int(u32),
                .target = try path(reader),
                .content = try reader.string(),
            } };
        },
        else => return error.Malformed,
    }
}

/// An absolute path; callers drop the leading slash to open beneath a root.
fn path(reader: *wire.Reader) wire.Malformed![:0]u8 {
    const value = try reader.text();
    if (value.len < 2 or value[0] != '/') return error.Malformed;
    return value;
}

comptime {
    std.debug.assert(@sizeOf(RootMode) == 1);
}
