//! Project roots: the copy-on-write overlay, and masks and pins for the other modes.
//! Source: Documentation/filesystems/overlayfs.rst.

const std = @import("std");
const linux = @import("linux.zig");
const mounts = @import("mounts.zig");
const scan = @import("scan.zig");
const spec_module = @import("spec.zig");
const Tree = mounts.Tree;
const Whiteouts = @import("whiteouts.zig").Whiteouts;
const Error = linux.Error;

const directory_flags: u32 = linux.O_RDONLY | linux.O_DIRECTORY | linux.O_CLOEXEC;

/// The project as the lower layer: a mapped clone when started as root, else the directory.
pub fn open_lower(source: [:0]const u8, idmap: ?i32) Error!i32 {
    if (idmap != null) return mounts.clone(source, false, idmap);
    const result = linux.raw(.openat, .{
        linux.AT_FDCWD, source.ptr, directory_flags | linux.O_NOFOLLOW, @as(u32, 0),
    });
    return linux.descriptor(result, "open project", source);
}

pub fn mount_root(tree: *Tree, source: i32, root: anytype) Error!void {
    if (root.mode == .overlay) return mount_overlay(tree, source, root);
    try mounts.attach(tree, source, root.target, true);
    const place = try linux.descriptor(
        linux.open_beneath(tree.root, root.target[1..], directory_flags),
        "open project",
        root.target,
    );
    defer linux.close(place);
    const writable = root.mode == .direct;
    var cover: Cover = .{ .tree = tree, .place = place, .writable = writable };
    const protect = if (writable) tree.spec.protect else &.{};
    // An overlay's pipes and sockets are its own; here they would be the host's.
    var walk: scan.Walk = .{ .hide = tree.spec.hide, .protect = protect, .doors = true };
    try scan.run(&walk, place, &cover);
}

/// Bound the length of relative paths the walk can produce, as the kernel does.
const PathBuffer = [4096]u8;

fn join(buffer: *PathBuffer, parts: []const []const u8) Error![:0]u8 {
    var at: usize = 0;
    for (parts) |part| {
        if (at + part.len + 2 > buffer.len) return linux.fail(.NAMETOOLONG, "scan", "project");
        if (at > 0) {
            buffer[at] = '/';
            at += 1;
        }
        @memcpy(buffer[at..][0..part.len], part);
        at += part.len;
    }
    buffer[at] = 0;
    return buffer[0..at :0];
}

/// Covers matches in a project that is mounted as it is (direct and read-only modes).
const Cover = struct {
    tree: *Tree,
    place: i32,
    writable: bool,

    pub fn entered(_: *Cover, _: *scan.Walk) Error!void {}
    pub fn left(_: *Cover, _: *scan.Walk) void {}

    pub fn found(cover: *Cover, walk: *scan.Walk, match: scan.Match, _: bool) Error!void {
        var buffer: PathBuffer = undefined;
        const parts = walk.path.parts[0..walk.path.count];
        // A parent could be renamed, and what is covered or protected with it, out of the pattern's
        // reach in the next session; a mount point cannot be. rename(2)
        if (cover.writable) for (1..parts.len) |count| {
            try pin(cover.place, try join(&buffer, parts[0..count]), true);
        };
        if (match != .protect) {
            if (match != .door) cover.tree.hidden += 1;
            return cover_path(cover.tree, cover.place, try join(&buffer, parts));
        }
        try pin(cover.place, try join(&buffer, parts), false);
    }
};

const STATX_ATTR_MOUNT_ROOT = 0x2000;

/// Mounts a path onto itself: it can no longer be renamed or removed, nor written if not asked.
fn pin(root: i32, path: [:0]const u8, writable: bool) Error!void {
    const opened = linux.open_beneath(root, path, linux.O_PATH | linux.O_NOFOLLOW);
    const place = try linux.descriptor(opened, "protect", path);
    defer linux.close(place);
    var status: linux.Statx = undefined;
    _ = try linux.check(linux.statx(place, "", linux.AT_EMPTY_PATH, &status), "protect", path);
    const attributes: u64 = @bitCast(status.attributes);
    if (writable and attributes & STATX_ATTR_MOUNT_ROOT != 0) return;
    const mount = try mounts.clone_at(place, "", writable, null);
    defer linux.close(mount);
    try mounts.attach_to(mount, place, path);
}

/// Covers a path below the new root with nothing; passes over what does not exist.
pub fn mask_path(tree: *Tree, path: [:0]const u8) Error!void {
    return cover_path(tree, tree.root, path);
}

fn cover_path(tree: *Tree, root: i32, path: [:0]const u8) Error!void {
    const opened = linux.open_beneath(root, path, linux.O_PATH | linux.O_NOFOLLOW);
    if (linux.errno(opened) == .NOENT) return;
    const place = try linux.descriptor(opened, "mask", path);
    defer linux.close(place);
    var status: linux.Statx = undefined;
    _ = try linux.check(linux.statx(place, "", linux.AT_EMPTY_PATH, &status), "mask", path);
    const kind = status.mode & linux.S_IFMT;
    // A symbolic link shows a name only; what it points to is judged at its own place.
    if (kind == linux.S_IFLNK) return;
    const directory = kind == linux.S_IFDIR;
    const nothing = if (directory) mounts.nothing_directory else mounts.nothing_file;
    const mount = try mounts.clone_nothing(tree, nothing);
    defer linux.close(mount);
    try mounts.attach_to(mount, place, path);
}

/// Covers a file below the new root with another content; passes over what does not exist.
pub fn cover_file(tree: *Tree, path: [:0]const u8, content: []const u8, number: u16) Error!void {
    const opened = linux.open_beneath(tree.root, path, linux.O_PATH | linux.O_NOFOLLOW);
    if (linux.errno(opened) == .NOENT) return;
    const place = try linux.descriptor(opened, "cover", path);
    defer linux.close(place);
    var name: [24]u8 = undefined;
    const file = std.fmt.bufPrintSentinel(&name, "cover{d}", .{number}, 0) catch linux.exit(125);
    try mounts.write_file(tree.workspace, file, 0o444, content);
    const mount = try mounts.clone_at(tree.workspace, file, false, null);
    defer linux.close(mount);
    try mounts.attach_to(mount, place, path);
}

fn index_name(buffer: *[16]u8, comptime prefix: []const u8, index: u8) [:0]const u8 {
    return std.fmt.bufPrintSentinel(buffer, prefix ++ "{d}", .{index}, 0) catch linux.exit(125);
}

fn layer_directory(tree: *Tree, name: [:0]const u8) Error!i32 {
    try mounts.make_directory(tree.workspace, name, 0o755);
    try mounts.own(tree.spec, tree.workspace, name);
    const result = linux.raw(.openat, .{ tree.workspace, name.ptr, directory_flags, @as(u32, 0) });
    return linux.descriptor(result, "open layer", name);
}

fn mount_overlay(tree: *Tree, source: i32, root: anytype) Error!void {
    var name: [16]u8 = undefined;
    const upper = try layer_directory(tree, index_name(&name, "upper/", root.index));
    defer linux.close(upper);
    try imitate(tree.spec, source, upper);
    const work = try layer_directory(tree, index_name(&name, "work/", root.index));
    defer linux.close(work);
    var lower = source;
    if (tree.idmap != null) lower = try settle(tree, source, root.index);
    const top = try linux.descriptor(
        linux.raw(.openat, .{ lower, ".", directory_flags, @as(u32, 0) }),
        "open project",
        root.source,
    );
    defer linux.close(top);
    var whiteouts: Whiteouts = .{ .tree = tree, .index = root.index };
    whiteouts.prepare(tree.spec.hide);
    tree.watch.add_root(root.index, top, root.target);
    var walk: scan.Walk = .{ .hide = tree.spec.hide, .protect = &.{} };
    try scan.run(&walk, top, &whiteouts);
    defer linux.close(whiteouts.layer);
    const mount = try create_overlay(tree, .{
        .upper = upper,
        .work = work,
        .mask = if (whiteouts.layer >= 0) whiteouts.layer else null,
        .lower = top,
    });
    defer linux.close(mount);
    try mounts.attach(tree, mount, root.target, true);
}

/// Kernels before 6.15 want layers of an overlay attached somewhere: the old tree will do.
fn settle(tree: *Tree, source: i32, index: u8) Error!i32 {
    var name: [16]u8 = undefined;
    const place = try layer_directory(tree, index_name(&name, "lower/", index));
    defer linux.close(place);
    try mounts.attach_to(source, place, "lower layer");
    return source;
}

/// A directory for one root's masks, on the private file system: what is hidden must not use up
/// what the session may write to the project.
pub fn make_mask_layer(tree: *Tree, index: u8) Error!i32 {
    var name: [16]u8 = undefined;
    const text = index_name(&name, "mask", index);
    try mounts.make_directory(tree.scratch, text, 0o755);
    const result = linux.raw(.openat, .{ tree.scratch, text.ptr, directory_flags, @as(u32, 0) });
    return linux.descriptor(result, "open layer", text);
}

const Layers = struct { upper: i32, work: i32, mask: ?i32, lower: i32 };

fn create_overlay(tree: *Tree, set: Layers) Error!i32 {
    const context = try mounts.open_context("overlay");
    defer linux.close(context);
    try set_flag(context, "userxattr");
    // The layer lives in memory and dies with the session: there is nothing to sync it to.
    try set_flag(context, "volatile");
    const text = tree.spec.has(spec_module.Flags.string_layers);
    if (text or !try set_layers(context, set)) try set_layers_as_text(context, set);
    return mounts.create(context, linux.MOUNT_ATTR_NODEV, "overlay");
}

/// False on kernels before 6.13, which take no descriptors for layers.
fn set_layers(context: i32, set: Layers) Error!bool {
    const first = set.mask orelse set.lower;
    set_layer(context, "lowerdir+", first) catch |problem| {
        if (linux.failure.errno == @backingInt(linux.E.INVAL)) return false;
        return problem;
    };
    if (set.mask != null) try set_layer(context, "lowerdir+", set.lower);
    try set_layer(context, "upperdir", set.upper);
    try set_layer(context, "workdir", set.work);
    return true;
}

fn set_flag(context: i32, key: [:0]const u8) Error!void {
    const none: ?*const u8 = null;
    const command: u32 = linux.FSCONFIG_SET_FLAG;
    const result = linux.raw(.fsconfig, .{ context, command, key.ptr, none, @as(u32, 0) });
    _ = try linux.check(result, "configure overlay", key);
}

fn set_layer(context: i32, key: [:0]const u8, fd: i32) Error!void {
    const none: ?*const u8 = null;
    const command: u32 = linux.FSCONFIG_SET_FD;
    const result = linux.raw(.fsconfig, .{ context, command, key.ptr, none, fd });
    _ = try linux.check(result, "configure overlay", key);
}

/// Descriptors named through the old tree's /proc, so that no character of a path needs quoting.
fn set_layers_as_text(context: i32, set: Layers) Error!void {
    var text: [96]u8 = undefined;
    const prefix = "/proc/self/fd/";
    const lower = if (set.mask) |mask|
        std.fmt.bufPrintSentinel(
            &text,
            prefix ++ "{d}:" ++ prefix ++ "{d}",
            .{ mask, set.lower },
            0,
        )
    else
        std.fmt.bufPrintSentinel(&text, prefix ++ "{d}", .{set.lower}, 0);
    try mounts.set_string(context, "lowerdir", lower catch linux.exit(125));
    const upper = std.fmt.bufPrintSentinel(&text, prefix ++ "{d}", .{set.upper}, 0);
    try mounts.set_string(context, "upperdir", upper catch linux.exit(125));
    const work = std.fmt.bufPrintSentinel(&text, prefix ++ "{d}", .{set.work}, 0);
    try mounts.set_string(context, "workdir", work catch linux.exit(125));
}

/// Gives a directory the mode, times and (as far as this user can) owner of another.
pub fn imitate(spec: *const spec_module.Spec, original: i32, copy: i32) Error!void {
    var status: linux.Statx = undefined;
    _ = try linux.check(
        linux.statx(original, "", linux.AT_EMPTY_PATH, &status),
        "look at",
        "project directory",
    );
    if (spec.has(spec_module.Flags.root)) {
        const uid = if (status.uid == spec.project_uid) spec.outside_uid else status.uid;
        const gid = if (status.gid == spec.project_gid) spec.outside_gid else status.gid;
        try linux.must(linux.raw(.fchown, .{ copy, uid, gid }), "give away", "layer");
    }
    const mode = @as(u32, status.mode) & 0o7777;
    try linux.must(linux.raw(.fchmod, .{ copy, mode }), "set mode of", "layer");
    const times = [2]linux.Timespec{
        .{ .sec = status.atime.sec, .nsec = status.atime.nsec },
        .{ .sec = status.mtime.sec, .nsec = status.mtime.nsec },
    };
    // Only looks: nothing is held by a directory's times.
    _ = linux.raw(.utimensat, .{ copy, @as(?*const u8, null), &times, @as(u32, 0) });
}
