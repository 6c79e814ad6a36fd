//! /dev and /proc of the sandbox: the parts that are the same for every plan.
//! Sources: proc(5), pts(4), mem(4).

const std = @import("std");
const linux = @import("linux.zig");
const mounts = @import("mounts.zig");
const Error = linux.Error;

const node_names = [_][:0]const u8{ "null", "zero", "full", "random", "urandom", "tty" };
pub const Nodes = [node_names.len]i32;

const device_links = [_][2][:0]const u8{
    .{ "/dev/fd", "/proc/self/fd" },
    .{ "/dev/stdin", "/proc/self/fd/0" },
    .{ "/dev/stdout", "/proc/self/fd/1" },
    .{ "/dev/stderr", "/proc/self/fd/2" },
    .{ "/dev/ptmx", "pts/ptmx" },
};

/// What tells of the host or acts on it and does not already refuse everyone but root, and the two
/// entries that would be worst. Each costs a mount at every start.
const masked_files = [_][:0]const u8{
    "sysrq-trigger", "kcore", "keys", "key-users", "cmdline", "interrupts", "sched_debug",
};
const masked_directories = [_][:0]const u8{ "bus", "irq", "fs", "scsi", "asound" };

/// Opens the host's harmless device nodes; they cannot be made in a user namespace.
pub fn clone_nodes() Error!Nodes {
    var nodes: Nodes = undefined;
    inline for (node_names, 0..) |name, i| {
        const flags: u32 = linux.OPEN_TREE_CLONE | linux.OPEN_TREE_CLOEXEC;
        const path = "/dev/" ++ name;
        const result = linux.raw(.open_tree, .{ linux.AT_FDCWD, path, flags });
        nodes[i] = try linux.descriptor(result, "find", path);
        const attributes: linux.MountAttr = .{
            .attr_set = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NOEXEC,
        };
        try mounts.set_attributes(nodes[i], &attributes, 0, path);
    }
    return nodes;
}

/// A path the mount code may cut into pieces while it works.
fn scratch_path(buffer: *[64]u8, path: []const u8) [:0]u8 {
    @memcpy(buffer[0..path.len], path);
    buffer[path.len] = 0;
    return buffer[0..path.len :0];
}

pub fn populate(tree: *mounts.Tree, nodes: *Nodes) Error!void {
    var buffer: [64]u8 = undefined;
    inline for (node_names, 0..) |name, i| {
        try mounts.attach(tree, nodes[i], scratch_path(&buffer, "/dev/" ++ name), false);
        linux.close(nodes[i]);
    }
    try mount_terminals(tree);
    try mounts.make_scratch(tree, scratch_path(&buffer, "/dev/shm"), 0o1777);
    for (device_links) |link| {
        const result = linux.raw(.symlinkat, .{ link[1].ptr, tree.root, link[0][1..].ptr });
        _ = try linux.check(result, "link", link[0]);
    }
    try mount_processes(tree);
}

fn mount_terminals(tree: *mounts.Tree) Error!void {
    const context = try mounts.open_context("devpts");
    defer linux.close(context);
    try mounts.set_string(context, "ptmxmode", "666");
    try mounts.set_string(context, "mode", "600");
    // Not nodev: a terminal is a device, and devpts makes no others. devpts(5)
    const mount = try mounts.create(context, linux.MOUNT_ATTR_NOEXEC, "devpts");
    defer linux.close(mount);
    var buffer: [64]u8 = undefined;
    try mounts.attach(tree, mount, scratch_path(&buffer, "/dev/pts"), true);
}

fn mount_processes(tree: *mounts.Tree) Error!void {
    const context = try mounts.open_context("proc");
    defer linux.close(context);
    const attributes = linux.MOUNT_ATTR_NOEXEC | linux.MOUNT_ATTR_NODEV;
    const mount = try mounts.create(context, attributes, "proc");
    var buffer: [64]u8 = undefined;
    try mounts.attach(tree, mount, scratch_path(&buffer, "/proc"), true);
    linux.close(mount);
    const processes = try linux.descriptor(
        linux.open_beneath(tree.root, "proc", linux.O_PATH | linux.O_DIRECTORY),
        "reach",
        "/proc",
    );
    defer linux.close(processes);
    const settings = try mounts.clone_at(processes, "sys", false, null);
    defer linux.close(settings);
    try cover(settings, processes, "sys");
    try mask(tree, processes, mounts.nothing_file, &masked_files);
    try mask(tree, processes, mounts.nothing_directory, &masked_directories);
}

fn cover(mount: i32, directory: i32, name: [:0]const u8) Error!void {
    const flags: u32 = linux.MOVE_MOUNT_F_EMPTY_PATH;
    const moved = linux.raw(.move_mount, .{ mount, "", directory, name.ptr, flags });
    _ = try linux.check(moved, "mask", name);
}

/// Covers each name that exists with the same nothing.
fn mask(
    tree: *mounts.Tree,
    directory: i32,
    nothing: [:0]const u8,
    names: []const [:0]const u8,
) Error!void {
    var mount: i32 = -1;
    defer linux.close(mount);
    for (names) |name| {
        if (mount < 0) mount = try mounts.clone_nothing(tree, nothing);
        cover(mount, directory, name) catch |problem| {
            if (linux.failure.errno == @backingInt(linux.E.NOENT)) continue;
            return problem;
        };
        linux.close(mount);
        mount = -1;
    }
}
