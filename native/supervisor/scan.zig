//! One walk over a project tree that finds what the patterns name. Names only: no file is opened.

const std = @import("std");
const linux = @import("linux.zig");
const pattern = @import("pattern.zig");

/// `door`: a pipe or socket, behind which another program may listen. `deep`: a directory deeper
/// than patterns are followed, which cannot be judged.
pub const Match = enum { none, hide, protect, door, deep };

/// Where the walk stands: the open directories from the root down, and the path between them.
pub const Walk = struct {
    hide: pattern.List,
    protect: pattern.List,
    path: pattern.Path = .{},
    directories: [pattern.depth_max + 1]i32 = undefined,
    inside_git: bool = false,
    /// How many components lead to the nearest directory that is a repository by another name.
    repository_depth: ?usize = null,
    /// Whether pipes and sockets are looked for too.
    doors: bool = false,
    /// Whether to enter directories whose owner took his own permissions away: what belongs to this
    /// user can be given them back by this user, inside too. They are as before when left.
    force: bool = false,

    fn classify(walk: *Walk, is_directory: bool) Match {
        // Hiding parts of a repository's own store breaks it; gitignore never looks there either.
        const judged = !walk.inside_git;
        if (judged and pattern.matches(walk.hide, &walk.path, is_directory)) return .hide;
        if (pattern.matches(walk.protect, &walk.path, is_directory)) return .protect;
        if (walk.repository_depth) |depth| {
            if (walk.matches_as_git(depth, is_directory)) return .protect;
        }
        return .none;
    }

    /// Whether the path would be protected if the repository it lies in were called `.git`.
    fn matches_as_git(walk: *const Walk, depth: usize, is_directory: bool) bool {
        var path: pattern.Path = .{};
        for (walk.path.parts[0..depth]) |part| if (!path.push(part)) return true;
        if (!path.push(".git")) return true;
        for (walk.path.parts[depth..walk.path.count]) |part| if (!path.push(part)) return true;
        return pattern.matches(walk.protect, &path, is_directory);
    }

    fn enters(walk: *const Walk, name: []const u8) bool {
        if (!walk.inside_git) return true;
        if (walk.protect.len == 0) return walk.doors;
        // The object store is by far the largest part of a repository and is never executed.
        return !walk.in_objects() or std.mem.eql(u8, name, "info");
    }

    /// Whether the last component lies directly in a repository's object store.
    fn in_objects(walk: *const Walk) bool {
        const count = walk.path.count;
        return count > 1 and std.mem.eql(u8, walk.path.parts[count - 2], "objects");
    }
};

const Entry = extern struct { inode: u64, offset: i64, length: u16, type: u8 };
const name_offset = 19;
const DT_UNKNOWN = 0;
const DT_FIFO = 1;
const DT_DIR = 4;
const DT_SOCK = 12;

/// Walks below `root`: `handler.found(walk, kind, is_directory)` for each match, below which it
/// does not go; `handler.entered(walk)` and `handler.left(walk)` for each directory.
pub fn run(walk: *Walk, root: i32, handler: anytype) linux.Error!void {
    if (walk.hide.len == 0 and walk.protect.len == 0 and !walk.doors) return;
    walk.directories[0] = root;
    try directory(walk, handler);
}

/// Walks the directory `walk` stands in.
pub fn directory(walk: *Walk, handler: anytype) linux.Error!void {
    try handler.entered(walk);
    defer handler.left(walk);
    const fd = walk.directories[walk.path.count];
    const around = walk.repository_depth;
    defer walk.repository_depth = around;
    if (walk.protect.len > 0 and !walk.inside_git and is_repository(fd)) {
        walk.repository_depth = walk.path.count;
    }
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

fn visit(walk: *Walk, name: [:0]const u8, listed: u8, handler: anytype) linux.Error!void {
    if (std.mem.eql(u8, name, ".") or std.mem.eql(u8, name, "..")) return;
    const parent = walk.directories[walk.path.count];
    const kind = if (listed == DT_UNKNOWN) probe(parent, name) else listed;
    const is_directory = kind == DT_DIR;
    if (!walk.path.push(name)) return;
    defer walk.path.pop();
    const match = walk.classify(is_directory);
    if (match != .none) return handler.found(walk, match, is_directory);
    if (walk.doors and (kind == DT_FIFO or kind == DT_SOCK)) {
        return handler.found(walk, .door, false);
    }
    if (!is_directory or !walk.enters(name)) return;
    if (walk.path.count == pattern.depth_max) return handler.found(walk, .deep, true);
    const opened = open_directory(parent, name, walk.force) orelse return;
    defer opened.close();
    walk.directories[walk.path.count] = opened.fd;
    const was_inside = walk.inside_git;
    walk.inside_git = was_inside or std.mem.eql(u8, name, ".git");
    defer walk.inside_git = was_inside;
    try directory(walk, handler);
}

/// git takes any directory for a repository that holds these. gitrepository-layout(5)
fn is_repository(fd: i32) bool {
    if (probe(fd, "HEAD") == DT_UNKNOWN) return false;
    return probe(fd, "objects") != DT_UNKNOWN and probe(fd, "refs") != DT_UNKNOWN;
}

pub const Opened = struct {
    fd: i32,
    /// The mode to set again, if it had to be changed.
    mode: ?u32 = null,

    pub fn close(opened: *const Opened) void {
        // Whoever took the permissions away can do so again should this fail.
        if (opened.mode) |mode| _ = linux.raw(.fchmod, .{ opened.fd, mode });
        linux.close(opened.fd);
    }
};

/// Opens a directory to list and, with `force`, to change it. Null: not even its owner may, so that
/// the sandbox, which is nobody else, cannot either.
pub fn open_directory(parent: i32, name: [:0]const u8, force: bool) ?Opened {
    var opened: Opened = .{ .fd = -1 };
    var status: linux.Statx = undefined;
    if (force and !linux.failed(linux.statx(parent, name, linux.AT_SYMLINK_NOFOLLOW, &status))) {
        const usable = 0o700;
        const mode = @as(u32, status.mode) & 0o7777;
        if (status.mode & linux.S_IFMT == linux.S_IFDIR and mode & usable != usable) {
            const changed = linux.raw(.fchmodat, .{ parent, name.ptr, mode | usable });
            if (!linux.failed(changed)) opened.mode = mode;
        }
    }
    const flags: u32 = linux.O_RDONLY | linux.O_DIRECTORY | linux.O_NOFOLLOW | linux.O_CLOEXEC;
    const result = linux.raw(.openat, .{ parent, name.ptr, flags, @as(u32, 0) });
    if (linux.failed(result)) return null;
    opened.fd = @intCast(result);
    return opened;
}

fn probe(parent: i32, name: [:0]const u8) u8 {
    var status: linux.Statx = undefined;
    const flags = linux.AT_SYMLINK_NOFOLLOW;
    if (linux.failed(linux.statx(parent, name, flags, &status))) return DT_UNKNOWN;
    // The types of a listing are those of a mode. readdir(3)
    return @intCast((status.mode & linux.S_IFMT) >> 12);
}
