//! The weaker mode, for hosts that refuse namespaces: Landlock and seccomp alone.
//!
//! Nothing can be mounted, so nothing can be hidden inside the project and there is no layer for
//! edits; the plan for this mode asks for neither. Processes are found by their parentage.

const linux = @import("linux.zig");
const archive = @import("archive.zig");
const wire = @import("wire.zig");
const confine = @import("confine.zig");
const groups = @import("groups.zig");
const mounts = @import("mounts.zig");
const processes = @import("processes.zig");
const ready = @import("ready.zig");
const scan = @import("scan.zig");
const serve = @import("serve.zig");
const trees = @import("trees.zig");
const Watch = @import("watch.zig").Watch;
const Spec = @import("spec.zig").Spec;

/// Runs the session; what it leaves behind dies with it, whoever adopted it.
pub fn keep(spec: *const Spec, channel: *wire.Channel, file: i32) linux.Error!u8 {
    try groups.create(spec);
    try make_scratch(spec);
    try linux.must(linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1, 0), "adopt orphans", "");
    const group = try groups.birthplace(spec);
    const result = if (group) |fd| linux.fork_into(0, fd) else linux.fork(0);
    const pid = try linux.descriptor(result, "start", "");
    if (pid == 0) inside(spec, channel) catch linux.exit(report());
    processes.reap_all(pid);
    groups.remove(spec);
    trees.remove(linux.AT_FDCWD, spec.scratch);
    var writer: wire.Writer = .{};
    writer.int(u32, archive.save_nothing(file));
    writer.int(u64, 0);
    writer.int(u64, 0);
    _ = writer.send(ready.socket, wire.Type.saved, null);
    return 0;
}

fn make_scratch(spec: *const Spec) linux.Error!void {
    const made = linux.raw(.mkdirat, .{ linux.AT_FDCWD, spec.scratch.ptr, @as(u32, 0o700) });
    _ = try linux.check(made, "create private directory", spec.scratch);
    const flags: u32 = linux.O_RDONLY | linux.O_DIRECTORY | linux.O_CLOEXEC;
    const path = spec.scratch.ptr;
    const opened = linux.raw(.openat, .{ linux.AT_FDCWD, path, flags, @as(u32, 0) });
    const fd = try linux.descriptor(opened, "open", spec.scratch);
    defer linux.close(fd);
    inline for (.{ "tmp", "home" }) |name| try mounts.make_directory(fd, name, 0o700);
}

fn report() u8 {
    var writer: wire.Writer = .{};
    writer.int(u32, linux.failure.errno);
    writer.string(linux.failure.stage);
    writer.string(linux.failure.detail);
    _ = writer.send(ready.socket, wire.Type.failed, null);
    return 1;
}

fn inside(spec: *const Spec, channel: *wire.Channel) linux.Error!noreturn {
    const kill: u64 = linux.SIGKILL;
    try linux.must(linux.prctl(linux.PR_SET_PDEATHSIG, kill, 0), "tie to the keeper", "");
    try linux.must(linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1, 0), "adopt orphans", "");
    try groups.join(spec);
    try refuse_hidden(spec);
    var watch: Watch = .{};
    const descriptors = try ready.settle_descriptors(-1, &watch);
    try ready.raise_oom_score(spec);
    const confined = try confine.apply(spec, -1, &watch);
    if (confined.landlock == 0) return linux.fail(.OPNOTSUPP, "enforce Landlock", "");
    ready.announce(spec, confined.landlock, 0);
    var server: serve.Server = .{
        .channel = channel,
        .spec = spec,
        .upper = -1,
        .null_device = descriptors.null_device,
        .signals = descriptors.signals,
        .watch = &watch,
    };
    linux.exit(server.run());
}

const Refuse = struct {
    pub fn entered(_: *Refuse, _: *scan.Walk) linux.Error!void {}
    pub fn left(_: *Refuse, _: *scan.Walk) void {}

    pub fn found(_: *Refuse, walk: *scan.Walk, _: scan.Match, _: bool) linux.Error!void {
        return linux.fail(.ACCES, "hide", walk.path.parts[walk.path.count - 1]);
    }
};

/// A pattern with a match cannot be honoured here: the launch stops. A plan whose user waived
/// hiding carries no patterns.
fn refuse_hidden(spec: *const Spec) linux.Error!void {
    var reader = spec.steps;
    for (0..spec.steps_count) |_| switch (mounts.step(&reader)) {
        .root => |root| {
            const flags: u32 = linux.O_RDONLY | linux.O_DIRECTORY | linux.O_CLOEXEC;
            const path = root.source;
            const opened = linux.raw(.openat, .{ linux.AT_FDCWD, path.ptr, flags, @as(u32, 0) });
            const fd = try linux.descriptor(opened, "open project", path);
            defer linux.close(fd);
            var walk: scan.Walk = .{ .hide = spec.hide, .protect = &.{} };
            var refuse: Refuse = .{};
            try scan.run(&walk, fd, &refuse);
        },
        else => {},
    };
}
