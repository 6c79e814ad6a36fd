//! A program for tests: asks the supervisor's pattern matcher about paths.
//!
//! From standard input, over and over: u32 length of what follows; u32 n, n patterns (u8 flags,
//! u8 segments, strings) as in a launch specification; u32 m, m paths (u8 is a directory, u8
//! components, strings). To standard output: m bytes, "1" where a path or one above it matches.

const std = @import("std");
const linux = std.os.linux;
const pattern = @import("pattern");

pub const panic = std.debug.FullPanic(on_panic);
pub const std_options: std.Options = .{ .enable_segfault_handler = false };

fn on_panic(_: []const u8, _: ?usize) noreturn {
    linux.exit(134);
}

var buffer: [1 << 20]u8 = undefined;
var verdicts: [1 << 16]u8 = undefined;
var storage: [64]pattern.Pattern = undefined;
var at: usize = 0;

pub fn main() u8 {
    while (fill(buffer[0..4])) {
        const length = std.mem.readInt(u32, buffer[0..4], .little);
        if (length > buffer.len or !fill(buffer[0..length])) return 1;
        at = 0;
        const patterns = read_patterns();
        const count = int(u32);
        for (verdicts[0..count]) |*verdict| verdict.* = if (is_matched(patterns)) '1' else '0';
        var written: usize = 0;
        while (written < count) {
            const rest = verdicts[written..count];
            const result = linux.write(1, rest.ptr, rest.len);
            if (linux.errno(result) != .SUCCESS) return 1;
            written += result;
        }
    }
    return 0;
}

fn fill(target: []u8) bool {
    var filled: usize = 0;
    while (filled < target.len) {
        const rest = target[filled..];
        const result = linux.read(0, rest.ptr, rest.len);
        if (linux.errno(result) != .SUCCESS or result == 0) return false;
        filled += result;
    }
    return true;
}

fn int(comptime T: type) T {
    const size = @sizeOf(T);
    defer at += size;
    return std.mem.readInt(T, buffer[at..][0..size], .little);
}

fn string() [:0]u8 {
    const length = int(u32);
    defer at += length + 1;
    return buffer[at..][0..length :0];
}

fn read_patterns() pattern.List {
    const count = int(u32);
    for (storage[0..count]) |*item| {
        const flags = int(u8);
        item.negated = flags & 1 != 0;
        item.directory_only = flags & 2 != 0;
        item.count = int(u8);
        for (item.segments[0..item.count]) |*segment| segment.* = string();
        pattern.prepare(item);
    }
    return storage[0..count];
}

/// As the supervisor walks: what lies below a match is not looked at again.
fn is_matched(patterns: pattern.List) bool {
    const is_directory = int(u8) != 0;
    const components = int(u8);
    var path: pattern.Path = .{};
    var found = false;
    for (0..components) |i| {
        const added = path.push(string());
        std.debug.assert(added);
        const directory = is_directory or i + 1 < components;
        found = found or pattern.matches(patterns, &path, directory);
    }
    return found;
}
