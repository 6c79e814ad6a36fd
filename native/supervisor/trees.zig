//! Removes directory trees that hostile programs filled: beneath descriptors, following no link.

const std = @import("std");
const linux = @import("linux.zig");

/// Removes an entry and everything below it, as far as this user may.
pub fn remove(parent: i32, name: [:0]const u8) void {
    remove_at(parent, name, 0);
}

const remove_depth_max = 256;

fn remove_at(parent: i32, name: [:0]const u8, depth: usize) void {
    const plain = linux.raw(.unlinkat, .{ parent, name.ptr, @as(u32, 0) });
    if (linux.errno(plain) != .ISDIR or depth == remove_depth_max) return;
    const flags: u32 = linux.O_RDONLY | linux.O_DIRECTORY | linux.O_CLOEXEC | linux.O_NOFOLLOW;
    // A directory without permissions still belongs to this user; the open below tells.
    _ = linux.raw(.fchmodat, .{ parent, name.ptr, @as(u32, 0o700) });
    const opened = linux.raw(.openat, .{ parent, name.ptr, flags, @as(u32, 0) });
    if (linux.failed(opened)) return;
    const fd: i32 = @intCast(opened);
    defer linux.close(fd);
    var buffer: [2048]u8 align(8) = undefined;
    while (true) {
        const size: usize = buffer.len;
        const length = linux.raw(.getdents64, .{ fd, &buffer, size });
        if (linux.failed(length) or length == 0) break;
        var at: usize = 0;
        while (at < length) {
            const entry = std.mem.readInt(u16, buffer[at + 16 ..][0..2], .little);
            const child = std.mem.span(@as([*:0]const u8, @ptrCast(&buffer[at + 19])));
            at += entry;
            if (std.mem.eql(u8, child, ".") or std.mem.eql(u8, child, "..")) continue;
            remove_at(fd, child, depth + 1);
        }
    }
    const directory: u32 = linux.AT_REMOVEDIR;
    // What cannot be removed stays, and is seen by the user where it is.
    _ = linux.raw(.unlinkat, .{ parent, name.ptr, directory });
}
