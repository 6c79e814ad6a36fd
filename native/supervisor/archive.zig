//! Saves the copy-on-write layer as a change archive: docs/protocol.md.
//!
//! What is read here was written by the agent, so it is taken as data: opened without following
//! links, never created anywhere. Holes stay holes, whatever size a file claims.

const std = @import("std");
const linux = @import("linux.zig");
const scan = @import("scan.zig");

pub const Total = struct { bytes: u64 = 0, records: u64 = 0 };
pub const Error = error{ Write, Read };

const Kind = struct {
    const file = 1;
    const directory = 2;
    const opaque_directory = 3;
    const link = 4;
    const whiteout = 5;
    const special = 6;
    const end = 255;
};

const path_max = 4096;
const depth_max = 1024;
const magic = "casemate-change\n";
const read_flags: u32 = linux.O_RDONLY | linux.O_NOFOLLOW | linux.O_CLOEXEC | linux.O_NONBLOCK;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/// Output with one buffer; static, because only one archive is written at a time.
pub const Output = struct {
    fd: i32,
    errno: u32 = 0,
    filled: usize = 0,
    total: Total = .{},

    var buffer: [256 << 10]u8 = undefined;

    fn write(output: *Output, bytes: []const u8) Error!void {
        var rest = bytes;
        while (rest.len > 0) {
            const room = buffer[output.filled..];
            const count = @min(room.len, rest.len);
            @memcpy(room[0..count], rest[0..count]);
            output.filled += count;
            rest = rest[count..];
            if (output.filled == buffer.len) try output.flush();
        }
    }

    fn int(output: *Output, comptime T: type, value: T) Error!void {
        var bytes: [@sizeOf(T)]u8 = undefined;
        std.mem.writeInt(T, &bytes, value, .little);
        try output.write(&bytes);
    }

    pub fn flush(output: *Output) Error!void {
        var at: usize = 0;
        while (at < output.filled) {
            const rest = buffer[at..output.filled];
            const result = linux.raw(.write, .{ output.fd, rest.ptr, rest.len });
            if (linux.again(result)) continue;
            if (linux.failed(result) or result == 0) {
                output.errno = @backingInt(linux.errno(result));
                return error.Write;
            }
            at += result;
        }
        output.total.bytes += output.filled;
        output.filled = 0;
    }
};

pub const Walk = struct {
    output: *Output,
    root: u8,
    path: [path_max]u8 = undefined,
    length: usize = 0,
    depth: usize = 0,

    /// Adds a component; false when the path would be too long.
    pub fn push(walk: *Walk, name: []const u8) bool {
        const separator: usize = if (walk.length == 0) 0 else 1;
        if (walk.length + separator + name.len >= path_max) return false;
        if (separator == 1) walk.path[walk.length] = '/';
        @memcpy(walk.path[walk.length + separator ..][0..name.len], name);
        walk.length += separator + name.len;
        return true;
    }
};

/// What went wrong, as an errno for the SAVED frame: with ENAMETOOLONG the archive is whole but for
/// paths no program could have opened by name.
pub var last_errno: u32 = 0;

/// Starts an archive in `fd`, from the start of the file.
pub fn begin(output: *Output) Error!void {
    last_errno = 0;
    const start: i64 = 0;
    for ([_]usize{
        linux.raw(.lseek, .{ output.fd, start, @as(u32, 0) }),
        linux.raw(.ftruncate, .{ output.fd, start }),
    }) |result| if (linux.failed(result)) {
        output.errno = @backingInt(linux.errno(result));
        return error.Write;
    };
    try output.write(magic);
    try output.int(u32, 1);
    try output.int(u32, 0);
}

/// Writes the record that makes an archive whole.
pub fn finish(output: *Output) Error!Total {
    const records = output.total.records;
    try header(output, Kind.end, 0, 0, ".", records, 0);
    output.total.records = records;
    try output.flush();
    return output.total;
}

/// Adds the layers `upper/<index>` below `upper`.
pub fn add_layers(output: *Output, upper: i32) Error!void {
    var name: [8]u8 = undefined;
    for (0..16) |index| {
        const text = std.fmt.bufPrintSentinel(&name, "{d}", .{index}, 0) catch return error.Read;
        const opened = scan.open_directory(upper, text, true) orelse break;
        defer opened.close();
        var walk: Walk = .{ .output = output, .root = @intCast(index) };
        try directory_record_with(&walk, &opened);
        try directory(&walk, opened.fd);
    }
}

/// The errno to report for a failed archive.
pub fn failure_of(output: *const Output) u32 {
    return if (output.errno != 0) output.errno else @backingInt(linux.E.IO);
}

/// A whole archive of the layers alone.
pub fn save(upper: i32, fd: i32) Error!Total {
    var output: Output = .{ .fd = fd };
    errdefer last_errno = failure_of(&output);
    try begin(&output);
    try add_layers(&output, upper);
    return finish(&output);
}

/// A whole archive without a change; the value is an errno.
pub fn save_nothing(fd: i32) u32 {
    var output: Output = .{ .fd = fd };
    begin(&output) catch return failure_of(&output);
    _ = finish(&output) catch return failure_of(&output);
    return 0;
}

/// Whether anything was written to the layers at all.
pub fn is_empty(upper: i32) bool {
    var name: [8]u8 = undefined;
    for (0..16) |index| {
        const text = std.fmt.bufPrintSentinel(&name, "{d}", .{index}, 0) catch return false;
        const opened = scan.open_directory(upper, text, true) orelse break;
        defer opened.close();
        var buffer: [512]u8 align(8) = undefined;
        const length = linux.raw(.getdents64, .{ opened.fd, &buffer, @as(usize, buffer.len) });
        // "." and ".." take 48 bytes: anything more is an entry.
        if (linux.failed(length) or length > 48) return false;
    }
    return true;
}

fn header(
    output: *Output,
    kind: u8,
    root: u8,
    mode: u16,
    path: []const u8,
    size: u64,
    time: i64,
) Error!void {
    try output.int(u8, kind);
    try output.int(u8, root);
    try output.int(u16, mode);
    try output.int(u32, @intCast(path.len));
    try output.int(u64, size);
    try output.int(i64, time);
    try output.write(path);
    output.total.records += 1;
}

fn record(walk: *Walk, kind: u8, status: *const linux.Statx, size: u64) Error!void {
    const time = status.mtime.sec *% 1_000_000_000 +% @as(i64, status.mtime.nsec);
    const path = if (walk.length == 0) "." else walk.path[0..walk.length];
    try header(walk.output, kind, walk.root, status.mode & 0o7777, path, size, time);
}

fn look(fd: i32, name: [*:0]const u8, status: *linux.Statx) Error!void {
    const flags: u32 = linux.AT_SYMLINK_NOFOLLOW | linux.AT_EMPTY_PATH;
    if (linux.failed(linux.statx(fd, name, flags, status))) return error.Read;
}

/// Records an open directory under the walk's present path.
pub fn directory_record(walk: *Walk, fd: i32) Error!void {
    return directory_record_with(walk, &.{ .fd = fd });
}

/// The same with the mode it had before it was opened.
fn directory_record_with(walk: *Walk, opened: *const scan.Opened) Error!void {
    var status: linux.Statx = undefined;
    try look(opened.fd, "", &status);
    if (opened.mode) |mode| status.mode = @intCast(status.mode & linux.S_IFMT | mode);
    try record(walk, Kind.directory, &status, 0);
}

fn directory(walk: *Walk, fd: i32) Error!void {
    if (walk.depth == depth_max) {
        last_errno = @backingInt(linux.E.NAMETOOLONG);
        return;
    }
    walk.depth += 1;
    defer walk.depth -= 1;
    var buffer: [2048]u8 align(8) = undefined;
    while (true) {
        const length = linux.raw(.getdents64, .{ fd, &buffer, @as(usize, buffer.len) });
        if (linux.failed(length)) return error.Read;
        if (length == 0) return;
        var at: usize = 0;
        while (at < length) {
            const size = std.mem.readInt(u16, buffer[at + 16 ..][0..2], .little);
            const name: [*:0]const u8 = @ptrCast(&buffer[at + 19]);
            at += size;
            try entry(walk, fd, std.mem.span(name));
        }
    }
}

pub fn entry(walk: *Walk, parent: i32, name: [:0]const u8) Error!void {
    if (std.mem.eql(u8, name, ".") or std.mem.eql(u8, name, "..")) return;
    const before = walk.length;
    defer walk.length = before;
    if (!walk.push(name)) {
        last_errno = @backingInt(linux.E.NAMETOOLONG);
        return;
    }
    var status: linux.Statx = undefined;
    try look(parent, name, &status);
    switch (status.mode & linux.S_IFMT) {
        linux.S_IFREG => try file(walk, parent, name, &status),
        linux.S_IFDIR => try subdirectory(walk, parent, name, &status),
        linux.S_IFLNK => try link(walk, parent, name, &status),
        linux.S_IFCHR => {
            const whiteout = status.rdev_major == 0 and status.rdev_minor == 0;
            try record(walk, if (whiteout) Kind.whiteout else Kind.special, &status, 0);
        },
        else => try record(walk, Kind.special, &status, 0),
    }
}

/// Opens an entry of the layer even if the agent took its permissions away, and leaves them so.
fn open_entry(
    parent: i32,
    name: [:0]const u8,
    flags: u32,
    status: *const linux.Statx,
) Error!i32 {
    var result = linux.raw(.openat, .{ parent, name.ptr, flags, @as(u32, 0) });
    if (linux.errno(result) == .ACCES) {
        // Should this fail, so does the open that follows.
        _ = linux.raw(.fchmodat, .{ parent, name.ptr, @as(u32, 0o700) });
        result = linux.raw(.openat, .{ parent, name.ptr, flags, @as(u32, 0) });
        if (!linux.failed(result)) {
            // It was like this a moment ago.
            _ = linux.raw(.fchmod, .{ result, @as(u32, status.mode) & 0o7777 });
        }
    }
    if (linux.failed(result)) return error.Read;
    return @intCast(result);
}

fn subdirectory(walk: *Walk, parent: i32, name: [:0]const u8, status: *linux.Statx) Error!void {
    // One that can be listed and not searched tells names, and nothing of what they stand for.
    const opened = scan.open_directory(parent, name, true) orelse return error.Read;
    defer opened.close();
    const fd = opened.fd;
    var value: [4]u8 = undefined;
    const size: usize = value.len;
    const found = linux.raw(.fgetxattr, .{ fd, "user.overlay.opaque", &value, size });
    const replaces = !linux.failed(found) and found == 1 and value[0] == 'y';
    try record(walk, if (replaces) Kind.opaque_directory else Kind.directory, status, 0);
    try directory(walk, fd);
}

fn link(walk: *Walk, parent: i32, name: [:0]const u8, status: *linux.Statx) Error!void {
    var target: [path_max]u8 = undefined;
    const size: usize = target.len;
    const length = linux.raw(.readlinkat, .{ parent, name.ptr, &target, size });
    if (linux.failed(length)) return error.Read;
    try record(walk, Kind.link, status, length);
    try walk.output.write(target[0..length]);
}

fn file(walk: *Walk, parent: i32, name: [:0]const u8, status: *linux.Statx) Error!void {
    const fd = try open_entry(parent, name, read_flags, status);
    defer linux.close(fd);
    const size = status.size;
    try record(walk, Kind.file, status, size);
    var at: u64 = 0;
    while (at < size) {
        const data = linux.raw(.lseek, .{ fd, at, @as(u32, SEEK_DATA) });
        if (linux.failed(data) or data >= size) break;
        const hole = linux.raw(.lseek, .{ fd, @as(u64, data), @as(u32, SEEK_HOLE) });
        const end = if (linux.failed(hole)) size else @min(size, hole);
        try extent(walk, fd, data, end - data);
        at = end;
    }
    try walk.output.int(u64, size);
    try walk.output.int(u64, 0);
}

/// One stretch of data. A file that shrinks meanwhile (snapshots of a running session) is filled
/// up with zeros, so that the archive keeps its form.
fn extent(walk: *Walk, fd: i32, offset: u64, length: u64) Error!void {
    try walk.output.int(u64, offset);
    try walk.output.int(u64, length);
    var buffer: [16 << 10]u8 = undefined;
    var done: u64 = 0;
    while (done < length) {
        const want: usize = @intCast(@min(buffer.len, length - done));
        const got = linux.raw(.pread64, .{ fd, &buffer, want, offset + done });
        if (linux.failed(got)) return error.Read;
        if (got == 0) @memset(buffer[0..want], 0);
        const count = if (got == 0) want else got;
        try walk.output.write(buffer[0..count]);
        done += count;
    }
}
