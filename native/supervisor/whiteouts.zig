//! Hides matches from an overlay: a layer between project and edits in which they are whited out.
//! Source: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
//!
//! The whiteout holds whether or not the file exists below, so a plain name is also whited out
//! where it does not exist yet: at the top of the project, and below as far as a small budget
//! reaches, since each costs microseconds at every start. The first names of the policy go first.

const std = @import("std");
const linux = @import("linux.zig");
const layers = @import("layers.zig");
const mounts = @import("mounts.zig");
const pattern = @import("pattern.zig");
const scan = @import("scan.zig");
const Error = linux.Error;

const early_depth_max = 1;
const early_max = 64;
const names_max = 64;

pub const Whiteouts = struct {
    tree: *mounts.Tree,
    /// The masking layer, made when it is first needed.
    layer: i32 = -1,
    index: u8,
    count: u32 = 0,
    early: u32 = 0,
    /// A whiteout at the top of the layer, by name.
    first: [256]u8 = undefined,
    first_length: usize = 0,
    first_in: i32 = -1,
    /// The layer's directory for each directory the walk stands in, opened when needed.
    directories: [pattern.depth_max + 1]i32 = @splat(-1),
    names: [names_max][:0]const u8 = undefined,
    names_count: usize = 0,

    /// Collects the plain names: hidden wherever they are, and never given back.
    pub fn prepare(self: *Whiteouts, list: pattern.List) void {
        for (list) |*item| {
            if (item.negated or item.count != 2 or item.directory_only) continue;
            const name = item.segments[1];
            if (!std.mem.eql(u8, item.segments[0], "**")) continue;
            if (std.mem.findAny(u8, name, "*?[\\") != null) continue;
            if (given_back(list, name)) continue;
            if (self.names_count == names_max) return;
            self.names[self.names_count] = name;
            self.names_count += 1;
        }
    }

    /// What another pattern takes out of hiding, somewhere, must not be covered beforehand.
    fn given_back(list: pattern.List, name: [:0]const u8) bool {
        for (list) |*item| {
            if (!item.negated) continue;
            const last = item.segments[item.count - 1];
            if (std.mem.eql(u8, last, "**") or pattern.match_component(last, name)) return true;
        }
        return false;
    }

    pub fn entered(self: *Whiteouts, walk: *scan.Walk) Error!void {
        if (walk.inside_git or walk.path.count > early_depth_max) return;
        if (self.early + self.names_count > early_max) return;
        for (self.names[0..self.names_count]) |name| {
            const directory = try self.layer_directory(walk, walk.path.count);
            try self.put(directory, name);
            self.early += 1;
        }
    }

    pub fn left(self: *Whiteouts, walk: *scan.Walk) void {
        const depth = walk.path.count;
        const directory = self.directories[depth];
        if (directory < 0) return;
        // Filling it changed its times, which are only looks.
        layers.imitate(self.tree.spec, walk.directories[depth], directory) catch {};
        if (depth == 0) return;
        linux.close(directory);
        self.directories[depth] = -1;
    }

    pub fn found(self: *Whiteouts, walk: *scan.Walk, _: scan.Match, _: bool) Error!void {
        self.count += 1;
        self.tree.hidden += 1;
        const depth = walk.path.count - 1;
        const directory = try self.layer_directory(walk, depth);
        // Components come from the directory walk and end in a zero there.
        const part = walk.path.parts[depth];
        const name: [*:0]const u8 = @ptrCast(part.ptr);
        try self.put(directory, std.mem.span(name));
    }

    /// All are one inode: a link costs less than another.
    fn put(self: *Whiteouts, directory: i32, name: [:0]const u8) Error!void {
        if (self.first_length > 0) {
            const first: [*:0]const u8 = @ptrCast(&self.first);
            const none: u32 = 0;
            const linked = linux.raw(.linkat, .{ self.first_in, first, directory, name.ptr, none });
            if (!linux.failed(linked) or linux.errno(linked) == .EXIST) return;
        }
        const mode: u32 = linux.S_IFCHR;
        const result = linux.raw(.mknodat, .{ directory, name.ptr, mode, @as(u32, 0) });
        if (linux.errno(result) == .EXIST) return;
        _ = try linux.check(result, "hide", name);
        if (directory != self.layer or name.len >= self.first.len) return;
        self.first_in = directory;
        self.first_length = name.len;
        @memcpy(self.first[0..name.len], name);
        self.first[name.len] = 0;
    }

    /// The masking layer's directory at a depth of the walk, made like the original: an overlay
    /// shows the attributes of the topmost layer that has a directory.
    fn layer_directory(self: *Whiteouts, walk: *scan.Walk, depth: usize) Error!i32 {
        if (self.layer < 0) try self.make_layer();
        if (self.directories[depth] >= 0) return self.directories[depth];
        const parent = try self.layer_directory(walk, depth - 1);
        const name: [*:0]const u8 = @ptrCast(walk.path.parts[depth - 1].ptr);
        const made = linux.raw(.mkdirat, .{ parent, name, @as(u32, 0o755) });
        if (linux.errno(made) != .EXIST) {
            _ = try linux.check(made, "hide below", std.mem.span(name));
        }
        const flags: u32 = linux.O_RDONLY | linux.O_DIRECTORY | linux.O_CLOEXEC;
        const result = linux.raw(.openat, .{ parent, name, flags, @as(u32, 0) });
        const fd = try linux.descriptor(result, "hide below", std.mem.span(name));
        self.directories[depth] = fd;
        return fd;
    }

    fn make_layer(self: *Whiteouts) Error!void {
        self.layer = try layers.make_mask_layer(self.tree, self.index);
        self.directories[0] = self.layer;
    }
};
