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

/// The version 2 group to be born into, if there is one: moving a process there afterwards makes
/// the kernel wait for all its readers, some ten milliseconds. clone3(2), CLONE_INTO_CGROUP
pub fn birthplace(spec: *const Spec) linux.Error!?i32 {
    for (spec.groups[0..spec.groups_count]) |*group| {
        if (try has_tasks(group.directory)) continue;
        const flags: u32 = linux.O_RDONLY | linux.O_DIRECTORY | linux.O_CLOEXEC;
        const path = group.directory.ptr;
        const opened = linux.raw(.openat, .{ linux.AT_FDCWD, path, flags, @as(u32, 0) });
        return try linux.descriptor(opened, "open control group", group.directory);
    }
    return null;
}

/// Moves this process into its version 1 groups, before it starts any other. By itself and through
/// `tasks`, because that alone does not wait as above.
pub fn join(spec: *const Spec) linux.Error!void {
    for (spec.groups[0..spec.groups_count]) |*group| {
        if (try has_tasks(group.directory)) try write(group.directory, "tasks", "0");
    }
}

/// Whether a group is of version 1.
fn has_tasks(directory: [:0]const u8) linux.Error!bool {
    var path: [4096]u8 = undefined;
    const text = std.fmt.bufPrintSentinel(&path, "{s}/tasks", .{directory}, 0) catch
        return linux.fail(.NAMETOOLONG, "look at control group", directory);
    const exists: u32 = 0;
    return !linux.failed(linux.raw(.faccessat, .{ linux.AT_FDCWD, text.ptr, exists }));
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
