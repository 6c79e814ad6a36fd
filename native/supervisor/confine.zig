//! Gives up every power, for good, before the first command: identity, capabilities, Landlock,
//! seccomp. Children inherit all of it. Sources: capabilities(7), landlock(7), seccomp(2).

const std = @import("std");
const linux = @import("linux.zig");
const mounts = @import("mounts.zig");
const spec_module = @import("spec.zig");
const Watch = @import("watch.zig").Watch;
const Spec = spec_module.Spec;
const Error = linux.Error;

const secure_bits = 0b11101111; // noroot, no_setuid_fixup, keep_caps locked, no ambient raise

pub const Result = struct { landlock: u32 = 0 };

pub fn apply(spec: *const Spec, upper: i32, watch: *const Watch) Error!Result {
    try set_affinity(spec);
    const ruleset = try landlock_rules(spec, upper, watch);
    try drop_capabilities(spec);
    _ = try linux.check(linux.prctl(linux.PR_SET_DUMPABLE, 0, 0), "become undumpable", "");
    _ = try linux.check(linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1, 0), "renounce privileges", "");
    var result: Result = .{};
    if (ruleset) |rules| {
        const none: u32 = 0;
        const restricted = linux.raw(.landlock_restrict_self, .{ rules.fd, none });
        _ = try linux.check(restricted, "enforce Landlock", "");
        linux.close(rules.fd);
        result.landlock = rules.version;
    }
    try install_filter(spec);
    return result;
}

fn set_affinity(spec: *const Spec) Error!void {
    if (spec.affinity.len == 0) return;
    const self: i32 = 0;
    _ = try linux.check(
        linux.raw(.sched_setaffinity, .{ self, spec.affinity.len, spec.affinity.ptr }),
        "pin to processors",
        "",
    );
}

/// Started as root: take the private outside identity, then a user namespace that shows it under
/// the inside one. The other namespaces stay owned by the host's, out of reach of this one.
pub fn take_identity(spec: *const Spec) Error!void {
    const gid = spec.outside_gid;
    const uid = spec.outside_uid;
    const none: ?*const u32 = null;
    _ = try linux.check(linux.raw(.setgroups, .{ @as(usize, 0), none }), "drop groups", "");
    _ = try linux.check(linux.raw(.setresgid, .{ gid, gid, gid }), "take group", "");
    _ = try linux.check(linux.raw(.setresuid, .{ uid, uid, uid }), "take identity", "");
    _ = try linux.check(
        linux.raw(.unshare, .{@as(u64, linux.CLONE_NEWUSER)}),
        "create user namespace",
        "",
    );
    try map_self(spec);
}

/// Writes the identity maps of the user namespace this process is in. user_namespaces(7)
pub fn map_self(spec: *const Spec) Error!void {
    // The maps are files of this process: they belong to it only while it is dumpable.
    try linux.must(linux.prctl(linux.PR_SET_DUMPABLE, 1, 0), "become dumpable", "");
    try write_file("/proc/self/setgroups", "deny");
    var text: [40]u8 = undefined;
    try write_file("/proc/self/uid_map", map_line(&text, spec.inside_uid, spec.outside_uid));
    try write_file("/proc/self/gid_map", map_line(&text, spec.inside_gid, spec.outside_gid));
    try linux.must(linux.prctl(linux.PR_SET_DUMPABLE, 0, 0), "become undumpable", "");
}

pub fn map_line(buffer: *[40]u8, inside: u32, outside: u32) []const u8 {
    return std.fmt.bufPrint(buffer, "{d} {d} 1", .{ inside, outside }) catch linux.exit(125);
}

pub fn write_file(path: [:0]const u8, content: []const u8) Error!void {
    const flags: u32 = linux.O_WRONLY | linux.O_CLOEXEC;
    const result = linux.raw(.openat, .{ linux.AT_FDCWD, path.ptr, flags, @as(u32, 0) });
    const fd = try linux.descriptor(result, "open", path);
    defer linux.close(fd);
    const written = linux.raw(.write, .{ fd, content.ptr, content.len });
    _ = try linux.check(written, "write", path);
}

fn drop_capabilities(spec: *const Spec) Error!void {
    const ambient: u64 = linux.PR_CAP_AMBIENT_CLEAR_ALL;
    try linux.must(linux.prctl(linux.PR_CAP_AMBIENT, ambient, 0), "drop ambient powers", "");
    var capability: u64 = 0;
    // Past the last capability the kernel knows the call fails: that ends the loop.
    while (capability < 64) : (capability += 1) {
        const result = linux.prctl(linux.PR_CAPBSET_DROP, capability, 0);
        if (linux.errno(result) == .INVAL) break;
        // Both of these take a power over this user namespace. Without it there is none to lose,
        // and no_new_privs keeps every program from gaining any.
        if (linux.errno(result) == .PERM and spec.has(spec_module.Flags.bare)) break;
        _ = try linux.check(result, "drop the capability bounding set", "");
    }
    const bits: u64 = secure_bits;
    const set = linux.prctl(linux.PR_SET_SECUREBITS, bits, 0);
    if (linux.errno(set) != .PERM or !spec.has(spec_module.Flags.bare)) {
        _ = try linux.check(set, "set secure bits", "");
    }
    var header: linux.CapHeader = .{};
    const data: [2]linux.CapData = .{ .{}, .{} };
    _ = try linux.check(linux.raw(.capset, .{ &header, &data }), "drop capabilities", "");
}

const Rights = struct {
    const execute = 1;
    const write = 2;
    const read_file = 4;
    const read_dir = 8;
    const remove = 0x30;
    const make = 0x1fc0;
    const refer = 0x2000;
    const truncate = 0x4000;
    const ioctl_dev = 0x8000;
    const read = execute | read_file | read_dir;
    const file = execute | write | read_file | truncate | ioctl_dev;
    const scope_abstract_unix = 1;
    const scope_signal = 2;

    fn all(version: u32) u64 {
        var rights: u64 = read | write | remove | make;
        if (version >= 2) rights |= refer;
        if (version >= 3) rights |= truncate;
        if (version >= 5) rights |= ioctl_dev;
        return rights;
    }
};

const Ruleset = struct { fd: i32, version: u32, rights: u64 };

/// The second wall: even where a mount were escaped, only the plan's own places open. Null where
/// the kernel has no Landlock.
fn landlock_rules(spec: *const Spec, upper: i32, watch: *const Watch) Error!?Ruleset {
    const none: ?*const u8 = null;
    const ask: u32 = linux.LANDLOCK_CREATE_RULESET_VERSION;
    const supported = linux.raw(.landlock_create_ruleset, .{ none, @as(usize, 0), ask });
    if (linux.failed(supported)) return null;
    const version: u32 = @intCast(supported);
    const rights = Rights.all(version);
    var attributes: linux.LandlockRuleset = .{ .fs = rights };
    if (version >= 6) attributes.scoped = Rights.scope_abstract_unix | Rights.scope_signal;
    const size: usize = if (version >= 6) 24 else if (version >= 4) 16 else 8;
    const created = linux.raw(.landlock_create_ruleset, .{ &attributes, size, @as(u32, 0) });
    const fd = try linux.descriptor(created, "create Landlock ruleset", "");
    const rules: Ruleset = .{ .fd = fd, .version = version, .rights = rights };
    if (spec.has(spec_module.Flags.bare)) {
        try host_rules(spec, rules);
    } else {
        try add_path(rules, "/", Rights.read_dir);
        try add_path(rules, "/proc", Rights.read | Rights.write);
        try add_path(rules, "/dev", rights);
        // All that is in the sandbox's /etc was put there by the plan.
        try add_path(rules, "/etc", Rights.read);
    }
    if (upper >= 0) try add_rule(rules, upper, Rights.read, "layer");
    // Names only, and for the supervisor alone: no path inside leads to a lower layer.
    for (&watch.roots) |*root| {
        if (root.lower >= 0) try add_rule(rules, root.lower, Rights.read_dir, root.target);
    }
    try step_rules(spec, rules);
    return rules;
}

/// Devices of the host, where there is no /dev of the sandbox's own.
fn host_rules(spec: *const Spec, rules: Ruleset) Error!void {
    try add_path(rules, spec.scratch, rules.rights);
    try add_path(rules, "/proc", Rights.read);
    inline for (.{ "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts" }) |name| {
        try add_path(rules, "/dev/" ++ name, rules.rights);
    }
}

fn step_rules(spec: *const Spec, rules: Ruleset) Error!void {
    const rights = rules.rights;
    const on_host = spec.has(spec_module.Flags.bare);
    var reader = spec.steps;
    for (0..spec.steps_count) |_| switch (mounts.step(&reader)) {
        // A late file lies in a private directory or in the place of one that may be read.
        .directory, .symlink, .mask, .late => {},
        .file => |entry| if (!on_host and !in_etc(entry.target)) {
            try add_path(rules, entry.target, Rights.read);
        },
        .bind => |entry| if (on_host or entry.writable or !in_etc(entry.target)) try add_path(
            rules,
            if (on_host) entry.source else entry.target,
            if (entry.writable) rights else Rights.read,
        ),
        // Without mounts the host's own directory of that name would be meant.
        .scratch => |entry| if (!on_host) try add_path(rules, entry.target, rights),
        .root => |entry| try add_path(
            rules,
            if (on_host) entry.source else entry.target,
            if (entry.mode == .readonly) Rights.read else rights,
        ),
    };
}

fn in_etc(target: []const u8) bool {
    return std.mem.startsWith(u8, target, "/etc/");
}

fn add_path(rules: Ruleset, path: [:0]const u8, wanted: u64) Error!void {
    const flags: u32 = linux.O_PATH | linux.O_CLOEXEC | linux.O_NOFOLLOW;
    const result = linux.raw(.openat, .{ linux.AT_FDCWD, path.ptr, flags, @as(u32, 0) });
    const fd = try linux.descriptor(result, "reach", path);
    defer linux.close(fd);
    try add_rule(rules, fd, wanted, path);
}

/// Rights of directories are refused on a rule for a file: then those of files alone are asked.
fn add_rule(rules: Ruleset, fd: i32, wanted: u64, path: [:0]const u8) Error!void {
    const result = put_rule(rules, fd, wanted & rules.rights);
    if (linux.errno(result) != .INVAL) return linux.must(result, "add Landlock rule", path);
    const narrowed = put_rule(rules, fd, wanted & rules.rights & Rights.file);
    try linux.must(narrowed, "add Landlock rule", path);
}

fn put_rule(rules: Ruleset, fd: i32, access: u64) usize {
    const rule: linux.LandlockPath = .{ .access = access, .parent = fd };
    const kind: u32 = linux.LANDLOCK_RULE_PATH_BENEATH;
    return linux.raw(.landlock_add_rule, .{ rules.fd, kind, &rule, @as(u32, 0) });
}

const FilterProgram = extern struct { length: u16, filter: [*]const u8 };

fn install_filter(spec: *const Spec) Error!void {
    const count = spec.filter.len / 8;
    if (count > 4096) return linux.fail(.INVAL, "install system call filter", "too long");
    const program: FilterProgram = .{ .length = @intCast(count), .filter = spec.filter.ptr };
    const mode_filter: u32 = 1;
    const result = linux.raw(.seccomp, .{ mode_filter, @as(u32, 0), &program });
    _ = try linux.check(result, "install system call filter", "");
}
