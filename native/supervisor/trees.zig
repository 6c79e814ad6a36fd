//! Removes directory trees that hostile programs filled: beneath descriptors, following no link.

const std = @import("std");
const linux = @import("linux.zig");
const scan = @import("scan.zig");

/// Removes an entry and everything below it, as far as this user may, however deep it is.
pub fn remove(parent: i32, name: [:0]const u8) void {
    var trees: Removal = .{ .top = parent };
    trees.remove_at(parent, name, 0);
    // What lay too deep was moved up, and may itself be deep: each round takes a piece off it.
    for (0..rounds_max) |_| {
        if (!trees.moved) return;
        trees.moved = false;
        trees.remove_at(parent, Removal.aside, 0);
    }
}

/// Moves an entry out of the way under a name that no program obeys. False if that failed.
pub fn disarm(parent: i32, name: [:0]const u8) bool {
    var buffer: [32]u8 = undefined;
    for (0..1000) |number| {
        const text = std.fmt.bufPrintSentinel(&buffer, "casemate-held-{d}", .{number}, 0) catch
            return false;
        const no_replace: u32 = 1;
        const result = linux.raw(.renameat2, .{ parent, name.ptr, parent, text.ptr, no_replace });
        if (linux.errno(result) != .EXIST) return !linux.failed(result);
    }
    return false;
}

const remove_depth_max = 256;
const rounds_max = 4096;

const Removal = struct {
    top: i32,
    moved: bool = false,

    const aside = ".casemate-removed";

    fn remove_at(trees: *Removal, parent: i32, name: [:0]const u8, depth: usize) void {
        const plain = linux.raw(.unlinkat, .{ parent, name.ptr, @as(u32, 0) });
        if (linux.errno(plain) != .ISDIR) return;
        if (depth == remove_depth_max) return trees.move_up(parent, name);
        const opened = scan.open_directory(parent, name, true) orelse return;
        trees.empty(opened.fd, depth);
        linux.close(opened.fd);
        const directory: u32 = linux.AT_REMOVEDIR;
        // What cannot be removed stays, and is seen by the user where it is.
        _ = linux.raw(.unlinkat, .{ parent, name.ptr, directory });
    }

    fn empty(trees: *Removal, fd: i32, depth: usize) void {
        var buffer: [2048]u8 align(8) = undefined;
        while (true) {
            const size: usize = buffer.len;
            const length = linux.raw(.getdents64, .{ fd, &buffer, size });
            if (linux.failed(length) or length == 0) return;
            var at: usize = 0;
            while (at < length) {
                const entry = std.mem.readInt(u16, buffer[at + 16 ..][0..2], .little);
                const child = std.mem.span(@as([*:0]const u8, @ptrCast(&buffer[at + 19])));
                at += entry;
                if (std.mem.eql(u8, child, ".") or std.mem.eql(u8, child, "..")) continue;
                trees.remove_at(fd, child, depth + 1);
            }
        }
    }

    /// One deep tree at a time: with the place taken the rest stays where it is for this round.
    fn move_up(trees: *Removal, parent: i32, name: [:0]const u8) void {
        const no_replace: u32 = 1;
        const arguments = .{ parent, name.ptr, trees.top, @as([*:0]const u8, aside), no_replace };
        if (!linux.failed(linux.raw(.renameat2, arguments))) trees.moved = true;
    }
};
