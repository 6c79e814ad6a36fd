//! Finds and ends processes inside the sandbox, and adds up their memory. Source: proc(5).

const std = @import("std");
const linux = @import("linux.zig");
const mounts = @import("mounts.zig");
const Spec = @import("spec.zig").Spec;

const table_max = 8192;
const rounds_max = 64;

const Process = struct { pid: i32, parent: i32, group: i32, session: i32 };

var table: [table_max]Process = undefined;
var condemned: [table_max]bool = undefined;

/// Kills a command and everything it started that can be told to be its own: by parentage, by
/// process group and by session, over and over until nobody is left.
pub fn kill_tree(pid: i32) void {
    // Stopped first, the leader cannot fork away from under the search.
    _ = linux.raw(.kill, .{ pid, @as(u32, 19) });
    for (0..rounds_max) |_| {
        const count = read_table();
        if (!condemn(pid, table[0..count])) break;
        var alive: usize = 0;
        for (table[0..count], 0..) |process, i| {
            if (!condemned[i] or process.pid == pid) continue;
            alive += 1;
            _ = linux.raw(.kill, .{ process.pid, @as(u32, linux.SIGKILL) });
        }
        if (alive == 0) break;
    }
    _ = linux.raw(.kill, .{ pid, @as(u32, linux.SIGKILL) });
}

fn condemn(pid: i32, list: []const Process) bool {
    var any = false;
    for (list, 0..) |process, i| {
        condemned[i] = process.pid == pid or process.group == pid or process.session == pid;
        any = any or condemned[i];
    }
    spread(list);
    return any;
}

/// Condemns the children of the condemned.
fn spread(list: []const Process) void {
    var changed = true;
    while (changed) {
        changed = false;
        for (list, 0..) |process, i| {
            if (condemned[i]) continue;
            for (list, 0..) |parent, j| {
                if (condemned[j] and parent.pid == process.parent) {
                    condemned[i] = true;
                    changed = true;
                    break;
                }
            }
        }
    }
}

/// Every process of the session but this one: as PID 1 all there are, see kill(2) with -1;
/// otherwise its descendants.
pub fn kill_everyone() void {
    const self: i32 = @intCast(linux.raw(.getpid, .{}));
    if (self == 1) {
        const everyone: i32 = -1;
        _ = linux.raw(.kill, .{ everyone, @as(u32, linux.SIGKILL) });
        return;
    }
    for (0..rounds_max) |_| if (!kill_descendants(self)) return;
}

fn kill_descendants(self: i32) bool {
    const count = read_table();
    for (table[0..count], 0..) |process, i| condemned[i] = process.parent == self;
    spread(table[0..count]);
    var any = false;
    for (table[0..count], 0..) |process, i| {
        if (!condemned[i]) continue;
        any = true;
        _ = linux.raw(.kill, .{ process.pid, @as(u32, linux.SIGKILL) });
    }
    return any;
}

/// Waits for `pid`, then ends and reaps whatever this process, a subreaper, has adopted.
pub fn reap_all(pid: i32) void {
    const self: i32 = @intCast(linux.raw(.getpid, .{}));
    const none: ?*u8 = null;
    const any: i32 = -1;
    while (true) {
        const result = linux.raw(.wait4, .{ any, none, @as(u32, 0), none });
        if (linux.again(result)) continue;
        if (linux.failed(result)) return;
        if (result == pid) break;
    }
    while (true) {
        _ = kill_descendants(self);
        const result = linux.raw(.wait4, .{ any, none, @as(u32, 0), none });
        if (linux.failed(result) and !linux.again(result)) return;
    }
}

fn read_table() usize {
    const flags: u32 = linux.O_RDONLY | linux.O_DIRECTORY | linux.O_CLOEXEC;
    const opened = linux.raw(.openat, .{ linux.AT_FDCWD, "/proc", flags, @as(u32, 0) });
    if (linux.failed(opened)) return 0;
    const proc: i32 = @intCast(opened);
    defer linux.close(proc);
    var count: usize = 0;
    var buffer: [4096]u8 align(8) = undefined;
    while (true) {
        const size: usize = buffer.len;
        const length = linux.raw(.getdents64, .{ proc, &buffer, size });
        if (linux.failed(length) or length == 0) return count;
        var at: usize = 0;
        while (at < length) {
            const entry = std.mem.readInt(u16, buffer[at + 16 ..][0..2], .little);
            const name = std.mem.span(@as([*:0]const u8, @ptrCast(&buffer[at + 19])));
            at += entry;
            const pid = std.fmt.parseInt(i32, name, 10) catch continue;
            if (pid == 1 or count == table_max) continue;
            table[count] = read_process(proc, pid) orelse continue;
            count += 1;
        }
    }
}

fn read_file(proc: i32, pid: i32, comptime name: []const u8, buffer: []u8) ?[]u8 {
    var path: [32]u8 = undefined;
    const text = std.fmt.bufPrintSentinel(&path, "{d}/" ++ name, .{pid}, 0) catch return null;
    const flags: u32 = linux.O_RDONLY | linux.O_CLOEXEC;
    const opened = linux.raw(.openat, .{ proc, text.ptr, flags, @as(u32, 0) });
    if (linux.failed(opened)) return null;
    defer linux.close(@intCast(opened));
    const length = linux.raw(.read, .{ opened, buffer.ptr, buffer.len });
    if (linux.failed(length)) return null;
    return buffer[0..length];
}

fn read_process(proc: i32, pid: i32) ?Process {
    var buffer: [1024]u8 = undefined;
    const text = read_file(proc, pid, "stat", &buffer) orelse return null;
    // The name is the process's own choice and may hold anything: fields start after the last ")".
    const end = std.mem.findScalarLast(u8, text, ')') orelse return null;
    var fields = std.mem.tokenizeScalar(u8, text[end + 1 ..], ' ');
    _ = fields.next() orelse return null;
    var values: [3]i32 = undefined;
    for (&values) |*value| {
        value.* = std.fmt.parseInt(i32, fields.next() orelse return null, 10) catch return null;
    }
    return .{
        .pid = pid,
        .parent = values[0],
        .group = values[1],
        .session = values[2],
    };
}

/// Bytes of memory the sandbox holds: anonymous and shared pages of its processes and what lies
/// on its in-memory file systems. Used where no memory cgroup can be had.
pub fn memory_in_use(upper: i32) u64 {
    var total: u64 = 0;
    const count = read_table();
    const flags: u32 = linux.O_RDONLY | linux.O_DIRECTORY | linux.O_CLOEXEC;
    const opened = linux.raw(.openat, .{ linux.AT_FDCWD, "/proc", flags, @as(u32, 0) });
    if (linux.failed(opened)) return 0;
    defer linux.close(@intCast(opened));
    for (table[0..count]) |process| {
        var buffer: [4096]u8 = undefined;
        const text = read_file(@intCast(opened), process.pid, "status", &buffer) orelse continue;
        total += kibibytes(text, "RssAnon:") * 1024;
    }
    if (upper >= 0) total += used(upper);
    const tmp = linux.raw(.openat, .{ linux.AT_FDCWD, "/dev/shm", flags, @as(u32, 0) });
    if (!linux.failed(tmp)) {
        total += used(@intCast(tmp));
        linux.close(@intCast(tmp));
    }
    return total;
}

fn kibibytes(text: []const u8, key: []const u8) u64 {
    const start = std.mem.find(u8, text, key) orelse return 0;
    var fields = std.mem.tokenizeAny(u8, text[start + key.len ..], " \t\n");
    return std.fmt.parseInt(u64, fields.next() orelse return 0, 10) catch 0;
}

fn used(fd: i32) u64 {
    var status: linux.StatFs = undefined;
    if (linux.failed(linux.raw(.fstatfs, .{ fd, &status }))) return 0;
    const blocks = status.blocks -| status.blocks_free;
    return blocks * @as(u64, @intCast(@max(0, status.block_size)));
}

/// Watches the file system of a project that is edited directly, where nothing caps what is
/// written: by how much its free space shrank.
pub const Space = struct {
    fd: i32,
    bytes_free: u64,
    files_free: u64,

    pub fn open(spec: *const Spec) ?Space {
        var reader = spec.steps;
        for (0..spec.steps_count) |_| switch (mounts.step(&reader)) {
            .root => |root| {
                if (root.mode != .direct) continue;
                const flags: u32 = linux.O_PATH | linux.O_CLOEXEC;
                const path = root.target.ptr;
                const opened = linux.raw(.openat, .{ linux.AT_FDCWD, path, flags, @as(u32, 0) });
                if (linux.failed(opened)) return null;
                var space: Space = .{ .fd = @intCast(opened), .bytes_free = 0, .files_free = 0 };
                const status = space.look() orelse return null;
                space.bytes_free = free_bytes(&status);
                space.files_free = status.files_free;
                return space;
            },
            else => {},
        };
        return null;
    }

    fn look(space: *const Space) ?linux.StatFs {
        var status: linux.StatFs = undefined;
        if (linux.failed(linux.raw(.fstatfs, .{ space.fd, &status }))) return null;
        return status;
    }

    fn free_bytes(status: *const linux.StatFs) u64 {
        return status.blocks_free * @as(u64, @intCast(@max(0, status.block_size)));
    }

    pub fn exceeded(space: *const Space, spec: *const Spec) bool {
        const status = space.look() orelse return true;
        return space.bytes_free -| free_bytes(&status) > spec.space_watch_bytes or
            space.files_free -| status.files_free > spec.space_watch_files;
    }
};
