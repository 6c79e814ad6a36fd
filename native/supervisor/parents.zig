//! Directories of the new root, created on the way to what goes into them.

const std = @import("std");
const linux = @import("linux.zig");
const Error = linux.Error;

/// The directory last worked in: neighbours in the plan mostly share theirs.
pub const Parents = struct {
    fd: i32 = -1,
    path: [4096]u8 = undefined,
    length: usize = 0,

    pub fn open(parents: *Parents, root: i32, target: [:0]u8) Error!i32 {
        const directory = target[0 .. target.len - base_name(target).len];
        if (parents.fd >= 0 and std.mem.eql(u8, directory, parents.path[0..parents.length])) {
            return parents.fd;
        }
        if (directory.len > parents.path.len) return linux.fail(.NAMETOOLONG, "reach", target);
        linux.close(parents.fd);
        parents.fd = -1;
        parents.fd = try make_parents(root, target);
        @memcpy(parents.path[0..directory.len], directory);
        parents.length = directory.len;
        return parents.fd;
    }

    /// A mount over the remembered directory, or above it, leaves the descriptor underneath.
    pub fn forget(parents: *Parents, target: []const u8) void {
        const path = parents.path[0..parents.length];
        if (!std.mem.startsWith(u8, path, target)) return;
        linux.close(parents.fd);
        parents.fd = -1;
    }
};

pub fn base_name(target: [:0]const u8) [:0]const u8 {
    const slash = std.mem.findScalarLast(u8, target, '/') orelse return target;
    return target[slash + 1 ..];
}

/// Opens the directory that will hold `target`, creating it from the top as needed.
fn make_parents(root: i32, target: [:0]u8) Error!i32 {
    var at = try linux.descriptor(
        linux.open_beneath(root, ".", linux.O_PATH | linux.O_DIRECTORY),
        "reach",
        "/",
    );
    errdefer linux.close(at);
    var start: usize = 1;
    while (std.mem.findScalarPos(u8, target, start, '/')) |end| {
        target[end] = 0;
        defer target[end] = '/';
        const name: [*:0]const u8 = @ptrCast(target[start..].ptr);
        const flags: u64 = linux.O_PATH | linux.O_DIRECTORY;
        var next = linux.open_beneath(at, name, flags);
        if (linux.errno(next) == .NOENT) {
            // A failure shows at the next line.
            _ = linux.raw(.mkdirat, .{ at, name, @as(u32, 0o755) });
            next = linux.open_beneath(at, name, flags);
        }
        const fd = try linux.descriptor(next, "reach the parent of", target[0..end :0]);
        linux.close(at);
        at = fd;
        start = end + 1;
    }
    return at;
}
