//! Builds the sandbox's file tree from the plan's steps and makes it the root.
//! Sources: open_tree(2), move_mount(2), mount_setattr(2), fsconfig(2), overlayfs.rst.
//!
//! Everything is gathered in the old tree, which the last step throws away as a whole. All
//! sources are cloned first, so the order of steps can never make a step see an earlier one's
//! mount, and every attribute is set before a mount is attached: nothing is writable meanwhile.

const std = @import("std");
const linux = @import("linux.zig");
const spec_module = @import("spec.zig");
const layers = @import("layers.zig");
const devices = @import("devices.zig");
const Spec = spec_module.Spec;
const Parents = @import("parents.zig").Parents;
const base_name = @import("parents.zig").base_name;
const Watch = @import("watch.zig").Watch;
const Error = linux.Error;

pub const Tree = struct {
    spec: *const Spec,
    /// User namespace of the identity mapping for project roots, when started as root.
    idmap: ?i32,
    /// The new root's own file system.
    root: i32 = -1,
    /// In-memory file systems of the session: the copy-on-write layer, and everything private.
    workspace: i32 = -1,
    scratch: i32 = -1,
    scratch_count: u32 = 0,
    hidden: u32 = 0,
    parents: Parents = .{},
    watch: Watch = .{},
    sources: [spec_module.steps_max]i32 = undefined,
};

/// Old directories that exist on every Linux and serve as attachment points until the pivot.
const root_point = "/usr";
const workspace_point = "/dev";
const scratch_point = "/etc";

pub fn build(tree: *Tree) Error!void {
    const private = linux.MS_REC | linux.MS_PRIVATE;
    const none: ?*const u8 = null;
    _ = try linux.check(
        linux.raw(.mount, .{ none, "/", none, @as(u64, private), none }),
        "make mounts private",
        "/",
    );
    try clone_sources(tree);
    var nodes = try devices.clone_nodes();
    linux.mark(.sources);
    try make_file_systems(tree);
    linux.mark(.memory);
    try walk_steps(tree);
    linux.mark(.steps);
    try devices.populate(tree, &nodes);
    linux.mark(.devices);
    try enter(tree);
    linux.mark(.entered);
}

/// Clones a path's mounts, without setuid and device files, read-only unless `writable`.
pub fn clone(path: [:0]const u8, writable: bool, idmap: ?i32) Error!i32 {
    return clone_at(linux.AT_FDCWD, path, writable, idmap);
}

pub fn clone_at(directory: i32, path: [:0]const u8, writable: bool, idmap: ?i32) Error!i32 {
    const flags: u32 = linux.OPEN_TREE_CLONE | linux.OPEN_TREE_CLOEXEC | linux.AT_RECURSIVE |
        linux.AT_EMPTY_PATH;
    const result = linux.raw(.open_tree, .{ directory, path.ptr, flags });
    const fd = try linux.descriptor(result, "find", path);
    var attributes: linux.MountAttr = .{
        .attr_set = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV,
    };
    if (!writable) attributes.attr_set |= linux.MOUNT_ATTR_RDONLY;
    try set_attributes(fd, &attributes, linux.AT_RECURSIVE, path);
    if (idmap) |userns| {
        var mapping: linux.MountAttr = .{
            .attr_set = linux.MOUNT_ATTR_IDMAP,
            .userns_fd = @intCast(userns),
        };
        // Only the top: a file system below that cannot map identities keeps its own.
        try set_attributes(fd, &mapping, 0, path);
    }
    return fd;
}

pub fn set_attributes(
    fd: i32,
    attributes: *const linux.MountAttr,
    flags: u32,
    path: [:0]const u8,
) Error!void {
    const size: usize = @sizeOf(linux.MountAttr);
    _ = try linux.check(
        linux.raw(.mount_setattr, .{ fd, "", linux.AT_EMPTY_PATH | flags, attributes, size }),
        "set mount attributes",
        path,
    );
}

/// Attaches a mount to an open place.
pub fn attach_to(mount: i32, place: i32, path: [:0]const u8) Error!void {
    const flags: u32 = linux.MOVE_MOUNT_F_EMPTY_PATH | linux.MOVE_MOUNT_T_EMPTY_PATH;
    _ = try linux.check(
        linux.raw(.move_mount, .{ mount, "", place, "", flags }),
        "mount",
        path,
    );
}

/// Attaches a mount at a path below the new root, making the mount point where there is none.
pub fn attach(tree: *Tree, mount: i32, target: [:0]u8, is_directory: bool) Error!void {
    const parent = try tree.parents.open(tree.root, target);
    const name = base_name(target);
    if (is_directory) {
        // It often exists; a failure that matters shows at the mount.
        _ = linux.raw(.mkdirat, .{ parent, name.ptr, @as(u32, 0o755) });
    } else {
        const exclusive: u32 = linux.O_WRONLY | linux.O_CREAT | linux.O_EXCL | linux.O_CLOEXEC;
        const created = linux.raw(.openat, .{ parent, name.ptr, exclusive, @as(u32, 0o444) });
        if (!linux.failed(created)) linux.close(@intCast(created));
    }
    // A link at the end of the path is not followed: T_SYMLINKS is not among the flags.
    const flags: u32 = linux.MOVE_MOUNT_F_EMPTY_PATH;
    const moved = linux.raw(.move_mount, .{ mount, "", parent, name.ptr, flags });
    _ = try linux.check(moved, "mount", target);
    tree.parents.forget(target);
}

fn clone_sources(tree: *Tree) Error!void {
    var reader = tree.spec.steps;
    for (0..tree.spec.steps_count) |i| {
        tree.sources[i] = -1;
        switch (step(&reader)) {
            .bind => |bind| {
                const idmap = if (bind.owned) tree.idmap else null;
                tree.sources[i] = try clone(bind.source, bind.writable, idmap);
            },
            .root => |root| tree.sources[i] = switch (root.mode) {
                .overlay => try layers.open_lower(root.source, tree.idmap),
                .direct => try clone(root.source, true, tree.idmap),
                .readonly => try clone(root.source, false, tree.idmap),
            },
            else => {},
        }
    }
}

/// Steps were checked once by the parser.
pub fn step(reader: anytype) spec_module.Step {
    return spec_module.next_step(reader) catch linux.exit(125);
}

fn make_file_systems(tree: *Tree) Error!void {
    const spec = tree.spec;
    tree.root = try temporary("root", 16 << 20, 8192, "755");
    tree.workspace = try temporary("workspace", spec.disk_bytes, spec.disk_files, "755");
    tree.scratch = try temporary("scratch", spec.scratch_bytes, spec.scratch_files, "755");
    try attach_old(tree.root, root_point);
    try attach_old(tree.workspace, workspace_point);
    try attach_old(tree.scratch, scratch_point);
    // fsmount gives descriptors that cannot be read from; directories are opened for good here.
    tree.root = try reopen(tree.root);
    tree.workspace = try reopen(tree.workspace);
    tree.scratch = try reopen(tree.scratch);
    inline for (.{ "upper", "work", "lower", "nothing" }) |name| {
        try make_directory(tree.workspace, name, 0o755);
    }
    try make_directory(tree.workspace, nothing_directory, 0);
    const flags: u32 = linux.O_WRONLY | linux.O_CREAT | linux.O_EXCL | linux.O_CLOEXEC;
    const file = linux.raw(.openat, .{ tree.workspace, nothing_file, flags, @as(u32, 0) });
    linux.close(try linux.descriptor(file, "create", nothing_file));
    // A read-only mount of both, so that each clone of one is read-only without a further call.
    const nothing = try clone_at(tree.workspace, "nothing", false, null);
    defer linux.close(nothing);
    const move: u32 = linux.MOVE_MOUNT_F_EMPTY_PATH;
    const moved = linux.raw(.move_mount, .{ nothing, "", tree.workspace, "nothing", move });
    _ = try linux.check(moved, "mount", "nothing");
}

pub const nothing_directory = "nothing/directory";
pub const nothing_file = "nothing/file";

/// What masks are made of: an empty, unreadable file or directory.
pub fn clone_nothing(tree: *Tree, which: [:0]const u8) Error!i32 {
    const flags: u32 = linux.OPEN_TREE_CLONE | linux.OPEN_TREE_CLOEXEC;
    const result = linux.raw(.open_tree, .{ tree.workspace, which.ptr, flags });
    return linux.descriptor(result, "clone", which);
}

pub fn make_directory(directory: i32, name: [:0]const u8, mode: u32) Error!void {
    const result = linux.raw(.mkdirat, .{ directory, name.ptr, mode });
    _ = try linux.check(result, "create directory", name);
}

fn attach_old(mount: i32, point: [:0]const u8) Error!void {
    const flags: u32 = linux.MOVE_MOUNT_F_EMPTY_PATH;
    _ = try linux.check(
        linux.raw(.move_mount, .{ mount, "", linux.AT_FDCWD, point.ptr, flags }),
        "mount",
        point,
    );
}

fn reopen(fd: i32) Error!i32 {
    const flags: u32 = linux.O_RDONLY | linux.O_DIRECTORY | linux.O_CLOEXEC;
    const result = linux.raw(.openat, .{ fd, ".", flags, @as(u32, 0) });
    linux.close(fd);
    return linux.descriptor(result, "open", "file system root");
}

/// A size- and inode-capped tmpfs, detached. Source: tmpfs(5).
fn temporary(name: [:0]const u8, bytes: u64, files: u64, mode: [:0]const u8) Error!i32 {
    const context = try open_context("tmpfs");
    defer linux.close(context);
    var size: [24]u8 = undefined;
    var inodes: [24]u8 = undefined;
    try set_string(context, "source", name);
    try set_string(context, "size", decimal(&size, bytes));
    try set_string(context, "nr_inodes", decimal(&inodes, files));
    try set_string(context, "mode", mode);
    return create(context, linux.MOUNT_ATTR_NODEV, name);
}

fn decimal(buffer: *[24]u8, value: u64) [:0]const u8 {
    return std.fmt.bufPrintSentinel(buffer, "{d}", .{value}, 0) catch linux.exit(125);
}

pub fn open_context(kind: [:0]const u8) Error!i32 {
    const result = linux.raw(.fsopen, .{ kind.ptr, @as(u32, linux.FSOPEN_CLOEXEC) });
    return linux.descriptor(result, "open file system", kind);
}

pub fn set_string(context: i32, key: [:0]const u8, value: [:0]const u8) Error!void {
    const command: u32 = linux.FSCONFIG_SET_STRING;
    const result = linux.raw(.fsconfig, .{ context, command, key.ptr, value.ptr, @as(u32, 0) });
    _ = try linux.check(result, "configure file system", key);
}

pub fn create(context: i32, attributes: u32, name: [:0]const u8) Error!i32 {
    const none: ?*const u8 = null;
    const command: u32 = linux.FSCONFIG_CMD_CREATE;
    _ = try linux.check(
        linux.raw(.fsconfig, .{ context, command, none, none, @as(u32, 0) }),
        "create file system",
        name,
    );
    const all: u32 = linux.MOUNT_ATTR_NOSUID | attributes;
    const cloexec: u32 = linux.FSMOUNT_CLOEXEC;
    const result = linux.raw(.fsmount, .{ context, cloexec, all });
    return linux.descriptor(result, "mount file system", name);
}

fn walk_steps(tree: *Tree) Error!void {
    var reader = tree.spec.steps;
    for (0..tree.spec.steps_count) |i| {
        switch (step(&reader)) {
            .directory => |entry| {
                const parent = try tree.parents.open(tree.root, entry.target);
                const name = base_name(entry.target).ptr;
                const made = linux.raw(.mkdirat, .{ parent, name, entry.mode });
                if (linux.errno(made) != .EXIST) {
                    _ = try linux.check(made, "create directory", entry.target);
                    // Inside a private directory it is the sandbox's; elsewhere nobody can write.
                    try own(tree.spec, parent, base_name(entry.target));
                }
            },
            .symlink => |entry| {
                const parent = try tree.parents.open(tree.root, entry.target);
                const name = base_name(entry.target).ptr;
                const result = linux.raw(.symlinkat, .{ entry.destination.ptr, parent, name });
                _ = try linux.check(result, "link", entry.target);
            },
            .file => |entry| try make_file(tree, entry.target, entry.mode, entry.content),
            .bind => |entry| try attach(tree, tree.sources[i], entry.target, entry.directory),
            .scratch => |entry| try make_scratch(tree, entry.target, entry.mode),
            .root => |entry| try layers.mount_root(tree, tree.sources[i], entry),
            .mask => |entry| try layers.mask_path(tree, entry.target[1..]),
            .late => |entry| if (entry.cover) {
                try layers.cover_file(tree, entry.target[1..], entry.content, @intCast(i));
            } else {
                try make_file(tree, entry.target, entry.mode, entry.content);
                // In a private directory: it is the sandbox's to change.
                const parent = try tree.parents.open(tree.root, entry.target);
                try own(tree.spec, parent, base_name(entry.target));
            },
        }
        linux.close(tree.sources[i]);
    }
}

fn make_file(tree: *Tree, target: [:0]u8, mode: u32, content: []const u8) Error!void {
    const parent = try tree.parents.open(tree.root, target);
    try write_file(parent, base_name(target), mode, content);
}

pub fn write_file(directory: i32, name: [:0]const u8, mode: u32, content: []const u8) Error!void {
    const flags: u32 = linux.O_WRONLY | linux.O_CREAT | linux.O_EXCL | linux.O_CLOEXEC |
        linux.O_NOFOLLOW;
    const result = linux.raw(.openat, .{ directory, name.ptr, flags, mode });
    const fd = try linux.descriptor(result, "create file", name);
    defer linux.close(fd);
    var at: usize = 0;
    while (at < content.len) {
        const rest = content[at..];
        at += try linux.check(linux.raw(.write, .{ fd, rest.ptr, rest.len }), "write", name);
    }
}

/// A private directory: all of them share one file system and so one cap.
pub fn make_scratch(tree: *Tree, target: [:0]u8, mode: u32) Error!void {
    var buffer: [24]u8 = undefined;
    const name = decimal(&buffer, tree.scratch_count);
    tree.scratch_count += 1;
    try make_directory(tree.scratch, name, mode);
    // The umask is the user's; a shared /tmp needs its bits exactly.
    try linux.must(linux.raw(.fchmodat, .{ tree.scratch, name.ptr, mode }), "set mode of", target);
    try own(tree.spec, tree.scratch, name);
    const mount = try clone_at(tree.scratch, name, true, null);
    defer linux.close(mount);
    try attach(tree, mount, target, true);
}

/// Started as root, what the sandbox may write belongs to its outside identity.
pub fn own(spec: *const Spec, directory: i32, name: [:0]const u8) Error!void {
    if (!spec.has(spec_module.Flags.root)) return;
    const flags: u32 = linux.AT_SYMLINK_NOFOLLOW;
    _ = try linux.check(
        linux.raw(.fchownat, .{ directory, name.ptr, spec.outside_uid, spec.outside_gid, flags }),
        "give away",
        name,
    );
}

fn enter(tree: *Tree) Error!void {
    // Through the descriptor, not a path: the old tree's names mean other things by now.
    _ = try linux.check(linux.raw(.fchdir, .{tree.root}), "enter", "new root");
    const readonly: linux.MountAttr = .{ .attr_set = linux.MOUNT_ATTR_RDONLY };
    try set_attributes(tree.root, &readonly, 0, "new root");
    _ = try linux.check(linux.raw(.pivot_root, .{ ".", "." }), "pivot", "new root");
    _ = try linux.check(
        linux.raw(.umount2, .{ ".", @as(u32, linux.MNT_DETACH) }),
        "drop the old tree",
        "",
    );
    _ = try linux.check(linux.raw(.chdir, .{"/"}), "enter", "/");
}
