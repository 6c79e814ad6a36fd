//! One walk over a project tree that finds what the patterns name. Names only: no file is opened.

const std = @import("std");
const linux = @import("linux.zig");
const pattern = @import("pattern.zig");

pub const Match = enum { none, hide, protect };

/// Where the walk stands: the open directories from the root down, and the path between them.
pub const Walk = struct {
    hide: pattern.List,
    protect: pattern.List,
    path: pattern.Path = .{},
    directories: [pattern.depth_max + 1]i32 = undefined,
    inside_git: bool = false,

    fn classify(walk: *Walk, is_directory: bool) Match {
        // Hiding parts of a repository's own store breaks it; gitignore never looks there either.
        const judged = !walk.inside_git;
        if (judged and pattern.matches(walk.hide, &walk.path, is_directory)) return .hide;
        if (pattern.matches(walk.protect, &walk.path, is_directory)) return .protect;
        return .none;
    }

    fn enters(walk: *const Walk, name: []const u8) bool {
        if (!walk.inside_git) return true;
        // The object store is by far the largest part of a repository and is never executed.
        return walk.protect.len > 0 and !std.mem.eql(u8, name, "objects");
    }
};

const Entry = extern struct { inode: u64, offset: i64, length: u16, type: u8 };
const name_offset = 19;
const DT_UNKNOWN = 0;
const DT_DIR = 4;

/// Walks below `root`: `handler.found(walk, kind, is_directory)` for each match, below which it
/// does not go; `handler.entered(walk)` and `handler.left(walk)` for each directory.
/// Too deep a directory counts as hidden: it cannot be judged.
pub fn run(walk: *Walk, root: i32, handler: anytype) linux.Error!void {
    if (walk.hide.len == 0 and walk.protect.len == 0) return;
    walk.directories[0] = root;
    try directory(walk, handler);
}

/// Walks the directory `walk` stands in.
pub fn directory(walk: *Walk, handler: anytype) linux.Error!void {
    try handler.entered(walk);
    defer handler.left(walk);
    const fd = walk.directories[walk.path.count];
    var buffer: [4096]u8 align(8) = undefined;
    while (true) {
        const length = try linux.check(
            linux.raw(.getdents64, .{ fd, &buffer, @as(usize, buffer.len) }),
            "scan the project",
            "",
        );
        if (length == 0) return;
        var at: usize = 0;
        while (at < length) {
            const entry: *align(8) const Entry = @ptrCast(@alignCast(&buffer[at]));
            const name: [*:0]const u8 = @ptrCast(&buffer[at + name_offset]);
            at += entry.length;
            try visit(walk, std.mem.span(name), entry.type, handler);
        }
    }
}

fn visit(walk: *Walk, name: [:0]const u8, kind: u8, handler: anytype) linux.Error!void {
    if (std.mem.eql(u8, name, ".") or std.mem.eql(u8, name, "..")) return;
    const parent = walk.directories[walk.path.count];
    const is_directory = if (kind == DT_UNKNOWN) probe(parent, name) else kind == DT_DIR;
    if (!walk.path.push(name)) return;
    defer walk.path.pop();
    const match = walk.classify(is_directory);
    if (match != .none) return handler.found(walk, match, is_directory);
    if (!is_directory or !walk.enters(name)) return;
    if (walk.path.count == pattern.depth_max) return handler.found(walk, .hide, true);
    const flags = linux.O_RDONLY | linux.O_DIRECTORY | linux.O_NOFOLLOW | linux.O_CLOEXEC;
    const fd = linux.raw(.openat, .{ parent, name.ptr, @as(u32, flags), @as(u32, 0) });
    // What this user cannot read, the sandbox cannot either.
    if (linux.failed(fd)) return;
    defer linux.close(@intCast(fd));
    walk.directories[walk.path.count] = @intCast(fd);
    const was_inside = walk.inside_git;
    walk.inside_git = was_inside or std.mem.eql(u8, name, ".git");
    defer walk.inside_git = was_inside;
    try directory(walk, handler);
}

fn probe(parent: i32, name: [:0]const u8) bool {
    var status: linux.Statx = undefined;
    if (linux.failed(linux.statx(parent, name, linux.AT_SYMLINK_NOFOLLOW, &status))) return false;
    return status.mode & linux.S_IFMT == linux.S_IFDIR;
}
