//! Hidden files that appear on the host while the session runs: noticed and removed from the
//! sandbox's view within milliseconds. A second line behind the whiteouts made at the start, which
//! hold at once but only for what they name. Source: inotify(7).

const std = @import("std");
const linux = @import("linux.zig");
const pattern = @import("pattern.zig");
const scan = @import("scan.zig");
const spec_module = @import("spec.zig");
const trees = @import("trees.zig");

const watches_max = 8192;
const arena_size = 1 << 20;
const IN_MOVED_TO = 0x80;
const IN_CREATE = 0x100;
const IN_Q_OVERFLOW = 0x4000;
const IN_ISDIR = 0x40000000;
const IN_ONLYDIR = 0x01000000;
const interest: u32 = IN_CREATE | IN_MOVED_TO | IN_ONLYDIR;

const Root = struct { used: bool = false, lower: i32 = -1, target: [:0]const u8 = "" };
const Place = struct { root: u8 = 0, offset: u32 = 0, length: u32 = 0 };

/// How old a session is when it starts to watch. Taking a watch down makes the kernel wait for its
/// readers, some ten milliseconds: more than a short session takes as a whole.
pub const delay_ns = 250_000_000;

/// Watch descriptors are small numbers given out in order, so they index a table.
var places: [watches_max]Place = undefined;
var arena: [arena_size]u8 = undefined;

pub const Watch = struct {
    fd: i32 = -1,
    hide: pattern.List = &.{},
    roots: [spec_module.roots_max]Root = @splat(.{}),
    used: usize = 0,

    /// Starts watching, and covers what has appeared since the whiteouts were made. A user who has
    /// too many watchers already gets none, and the whiteouts stay.
    pub fn begin(watch: *Watch) void {
        const flags: u32 = linux.O_CLOEXEC | linux.O_NONBLOCK;
        const opened = linux.raw(.inotify_init1, .{flags});
        if (linux.failed(opened)) return;
        watch.fd = @intCast(opened);
        watch.look_everywhere();
    }

    /// Whether there is anything to watch.
    pub fn wanted(watch: *const Watch) bool {
        for (&watch.roots) |*root| if (root.used) return true;
        return false;
    }

    /// Names a root. `lower` stays open: new directories are looked into through it.
    pub fn add_root(watch: *Watch, index: u8, lower: i32, target: [:0]const u8) void {
        if (watch.hide.len == 0) return;
        const F_DUPFD_CLOEXEC: u32 = 1030;
        const copied = linux.raw(.fcntl, .{ lower, F_DUPFD_CLOEXEC, @as(u32, 0) });
        if (linux.failed(copied)) return;
        watch.roots[index] = .{ .used = true, .lower = @intCast(copied), .target = target };
    }

    /// Adds the directory the walk stands in. Past the limits it is left to the whiteouts.
    pub fn add_directory(watch: *Watch, index: u8, walk: *const scan.Walk) void {
        if (watch.fd < 0 or walk.inside_git) return;
        const start = watch.used;
        for (walk.path.parts[0..walk.path.count]) |part| {
            if (watch.used + part.len + 1 > arena.len) {
                watch.used = start;
                return;
            }
            @memcpy(arena[watch.used..][0..part.len], part);
            arena[watch.used + part.len] = '/';
            watch.used += part.len + 1;
        }
        var name: [32]u8 = undefined;
        const directory = walk.directories[walk.path.count];
        const path = std.fmt.bufPrintSentinel(&name, "/proc/self/fd/{d}", .{directory}, 0) catch
            return;
        const added = linux.raw(.inotify_add_watch, .{ watch.fd, path.ptr, interest });
        if (linux.failed(added) or added >= watches_max) {
            watch.used = start;
            return;
        }
        const length: u32 = @intCast(watch.used - start);
        places[added] = .{ .root = index, .offset = @intCast(start), .length = length };
    }

    /// Takes in what happened. Called when the descriptor is readable.
    pub fn handle(watch: *Watch) void {
        var buffer: [4096]u8 align(8) = undefined;
        const size: usize = buffer.len;
        const length = linux.raw(.read, .{ watch.fd, &buffer, size });
        if (linux.failed(length)) return;
        var at: usize = 0;
        while (at + 16 <= length) {
            const descriptor = std.mem.readInt(u32, buffer[at..][0..4], .little);
            const mask = std.mem.readInt(u32, buffer[at + 4 ..][0..4], .little);
            const name_length = std.mem.readInt(u32, buffer[at + 12 ..][0..4], .little);
            const name = buffer[at + 16 ..][0..name_length];
            at += 16 + name_length;
            if (mask & IN_Q_OVERFLOW != 0) return watch.look_everywhere();
            if (descriptor >= watches_max or name_length == 0) continue;
            const end = std.mem.findScalar(u8, name, 0) orelse continue;
            watch.appeared(places[descriptor], name[0..end :0], mask & IN_ISDIR != 0);
        }
    }

    fn appeared(watch: *Watch, place: Place, name: [:0]const u8, is_directory: bool) void {
        if (!watch.roots[place.root].used) return;
        var walk: scan.Walk = .{ .hide = watch.hide, .protect = &.{} };
        var parts = std.mem.tokenizeScalar(u8, arena[place.offset..][0..place.length], '/');
        while (parts.next()) |part| if (!walk.path.push(part)) return;
        if (!walk.path.push(name)) return;
        var finder: Finder = .{ .watch = watch, .index = place.root };
        if (pattern.matches(watch.hide, &walk.path, is_directory)) {
            finder.cover(&walk.path);
        } else if (is_directory) {
            watch.look_into(&walk, &finder);
        }
    }

    /// A new directory may hold what is to be hidden already.
    fn look_into(watch: *Watch, walk: *scan.Walk, finder: *Finder) void {
        var text: [4096]u8 = undefined;
        const path = join(&text, "", walk.path.parts[0..walk.path.count]) orelse return;
        const flags: u64 = linux.O_RDONLY | linux.O_DIRECTORY;
        const opened = linux.open_beneath(watch.roots[finder.index].lower, path, flags);
        if (linux.failed(opened)) return;
        defer linux.close(@intCast(opened));
        walk.directories[walk.path.count] = @intCast(opened);
        // An unreadable directory is as unreadable inside.
        scan.directory(walk, finder) catch {};
    }

    fn look_everywhere(watch: *Watch) void {
        for (&watch.roots, 0..) |*root, index| {
            if (!root.used) continue;
            var walk: scan.Walk = .{ .hide = watch.hide, .protect = &.{} };
            var finder: Finder = .{ .watch = watch, .index = @intCast(index) };
            walk.directories[0] = root.lower;
            // The directory was read before: it starts over.
            _ = linux.raw(.lseek, .{ root.lower, @as(i64, 0), @as(u32, 0) });
            // An unreadable directory is as unreadable inside.
            scan.directory(&walk, &finder) catch {};
        }
    }
};

const Finder = struct {
    watch: *Watch,
    index: u8,

    pub fn entered(self: *Finder, walk: *scan.Walk) linux.Error!void {
        self.watch.add_directory(self.index, walk);
    }

    pub fn left(_: *Finder, _: *scan.Walk) void {}

    pub fn found(self: *Finder, walk: *scan.Walk, _: scan.Match, _: bool) linux.Error!void {
        self.cover(&walk.path);
    }

    /// Removes the entry from the merged view: the overlay whites it out, the host keeps it.
    fn cover(self: *Finder, path: *const pattern.Path) void {
        var text: [4096]u8 = undefined;
        const target = self.watch.roots[self.index].target;
        const full = join(&text, target, path.parts[0..path.count]) orelse return;
        trees.remove(linux.AT_FDCWD, full);
    }
};

fn join(buffer: *[4096]u8, base: []const u8, parts: []const []const u8) ?[:0]u8 {
    var at: usize = base.len;
    if (at >= buffer.len) return null;
    @memcpy(buffer[0..at], base);
    for (parts) |part| {
        const separator: usize = if (at == 0) 0 else 1;
        if (at + separator + part.len + 1 > buffer.len) return null;
        if (separator == 1) buffer[at] = '/';
        @memcpy(buffer[at + separator ..][0..part.len], part);
        at += separator + part.len;
    }
    buffer[at] = 0;
    return buffer[0..at :0];
}
