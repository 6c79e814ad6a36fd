//! Control groups of one session: made, filled and removed by the keeper. Source: cgroups(7).

const std = @import("std");
const linux = @import("linux.zig");
const spec_module = @import("spec.zig");
const Spec = spec_module.Spec;

const create_flags: u32 = linux.O_WRONLY | linux.O_CLOEXEC | linux.O_NOFOLLOW;

/// Makes each group and writes its settings.
pub fn create(spec: *const Spec) linux.Error!void {
    for (spec.groups[0..spec.groups_count]) |*group| {
        const made = linux.raw(.mkdirat, .{
            linux.AT_FDCWD, group.directory.ptr, @as(u32, 0o755),
        });
        _ = try linux.check(made, "create control group", group.directory);
        var reader = group.settings;
        for (0..group.settings_count) |_| {
            const name = reader.text() catch linux.exit(125);
            const value = reader.text() catch linux.exit(125);
            try write(group.directory, name, value);
        }
    }
}

/// Moves a process, and so all it will start, into the groups.
pub fn enter(spec: *const Spec, pid: i32) linux.Error!void {
    var text: [16]u8 = undefined;
    const value = std.fmt.bufPrint(&text, "{d}", .{pid}) catch linux.exit(125);
    for (spec.groups[0..spec.groups_count]) |*group| {
        try write(group.directory, "cgroup.procs", value);
    }
}

fn write(directory: [:0]const u8, name: []const u8, value: []const u8) linux.Error!void {
    var path: [4096]u8 = undefined;
    const text = std.fmt.bufPrintSentinel(&path, "{s}/{s}", .{ directory, name }, 0) catch
        return linux.fail(.NAMETOOLONG, "configure control group", directory);
    const opened = linux.raw(.openat, .{ linux.AT_FDCWD, text.ptr, create_flags, @as(u32, 0) });
    const fd = try linux.descriptor(opened, "configure control group", directory);
    defer linux.close(fd);
    const written = linux.raw(.write, .{ fd, value.ptr, value.len });
    _ = try linux.check(written, "configure control group", directory);
}

/// Removes the groups; a dying process may hold one for a moment.
pub fn remove(spec: *const Spec) void {
    for (spec.groups[0..spec.groups_count]) |*group| {
        for (0..500) |_| {
            const flags: u32 = linux.AT_REMOVEDIR;
            const result = linux.raw(.unlinkat, .{
                linux.AT_FDCWD, group.directory.ptr, flags,
            });
            if (linux.errno(result) != .BUSY) break;
            const pause: linux.Timespec = .{ .nsec = 2_000_000 };
            const none: ?*u8 = null;
            _ = linux.raw(.nanosleep, .{ &pause, none });
        }
    }
}
