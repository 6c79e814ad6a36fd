//! The supervisor of one sandbox: a keeper outside and PID 1 inside.
//!
//! The keeper builds what must outlive the sandbox, waits for PID 1 to end, and then saves what
//! the agent changed, whether casemate is still there or was killed. It reads nothing the agent
//! says. PID 1 builds the sandbox from within, gives up every power and serves commands.

const std = @import("std");
const linux = @import("linux.zig");
const wire = @import("wire.zig");
const spec_module = @import("spec.zig");
const mounts = @import("mounts.zig");
const confine = @import("confine.zig");
const network = @import("network.zig");
const archive = @import("archive.zig");
const bare = @import("bare.zig");
const groups = @import("groups.zig");
const holdback = @import("holdback.zig");
const ready = @import("ready.zig");
const serve = @import("serve.zig");
const Flags = spec_module.Flags;
const Spec = spec_module.Spec;

pub const panic = std.debug.FullPanic(on_panic);
pub const std_options: std.Options = .{ .enable_segfault_handler = false };

/// What a check that failed exits with: 128 and SIGABRT, as a shell has it.
const broken = 134;

fn on_panic(_: []const u8, _: ?usize) noreturn {
    linux.exit(broken);
}

const socket = ready.socket;
const all_signals: u64 = std.math.maxInt(u64);
const save_attempts_max = 600;

var spec: Spec = undefined;
var tree: mounts.Tree = undefined;
var channel: wire.Channel = .{ .socket = socket };

pub fn main() u8 {
    prepare() catch return report_failure();
    const frame = channel.next() catch return 1;
    if (frame.kind != wire.Type.init) return 1;
    const layer_file = if (frame.descriptors.len == 1) frame.descriptors[0] else -1;
    channel.keep_descriptors();
    channel.keep_frame();
    spec_module.parse(frame.payload, &spec) catch {
        linux.failure = .{ .errno = @backingInt(linux.E.INVAL), .stage = "read the plan" };
        return report_failure();
    };
    if (spec.has(Flags.layer) and layer_file < 0) return 1;
    return keep(layer_file) catch {
        groups.remove(&spec);
        return report_failure();
    };
}

fn prepare() linux.Error!void {
    const first: u32 = socket + 1;
    const last: u32 = std.math.maxInt(u32);
    const closed = linux.raw(.close_range, .{ first, last, @as(u32, 0) });
    try linux.must(closed, "close descriptors", "");
    // Refused only to the leader of a group, which is out of the terminal's reach already.
    _ = linux.raw(.setsid, .{});
    // The keeper may outlive casemate: it must not hold its terminal or pipes open.
    const flags: u32 = linux.O_RDWR;
    const opened = linux.raw(.openat, .{ linux.AT_FDCWD, "/dev/null", flags, @as(u32, 0) });
    const null_device = try linux.descriptor(opened, "open", "/dev/null");
    for ([_]i32{ 0, 1, 2 }) |target| {
        if (target == null_device) continue;
        const placed = linux.raw(.dup3, .{ null_device, target, @as(u32, 0) });
        try linux.must(placed, "let go of standard streams", "");
    }
    linux.signal_mask(linux.SIG_BLOCK, all_signals);
    try linux.must(linux.prctl(linux.PR_SET_DUMPABLE, 0, 0), "become undumpable", "");
    var limit: linux.Rlimit = undefined;
    const none: ?*const u8 = null;
    const self: i32 = 0;
    const resource: u32 = linux.RLIMIT_NOFILE;
    try linux.must(linux.raw(.prlimit64, .{ self, resource, none, &limit }), "read limits", "");
    limit.soft = limit.hard;
    try linux.must(linux.raw(.prlimit64, .{ self, resource, &limit, none }), "raise limits", "");
}

fn report_failure() u8 {
    var writer: wire.Writer = .{};
    writer.int(u32, linux.failure.errno);
    writer.string(linux.failure.stage);
    writer.string(linux.failure.detail);
    _ = writer.send(socket, wire.Type.failed, null);
    return 1;
}

fn keep(layer_file: i32) linux.Error!u8 {
    if (spec.has(Flags.bare)) return bare.keep(&spec, &channel, layer_file);
    if (holdback.concerns(&spec)) try holdback.record(&spec);
    try groups.create(&spec);
    const idmap: ?i32 = if (spec.has(Flags.root)) try identity_mapping() else null;
    var pair: [2]i32 = undefined;
    const kind: u32 = linux.SOCK_STREAM | linux.SOCK_CLOEXEC;
    const family: u32 = linux.AF_UNIX;
    const made = linux.raw(.socketpair, .{ family, kind, @as(u32, 0), &pair });
    _ = try linux.check(made, "create socket pair", "");
    const group = try groups.birthplace(&spec);
    const result = if (group) |fd|
        linux.fork_into(namespaces(), fd)
    else
        linux.fork(namespaces());
    const pid = try linux.descriptor(result, "create namespaces", "");
    if (pid == 0) {
        linux.close(pair[0]);
        linux.close(layer_file);
        inside(pair[1], idmap) catch linux.exit(report_failure());
    }
    linux.close(pair[1]);
    if (idmap) |fd| linux.close(fd);
    if (group) |fd| linux.close(fd);
    const upper = receive_descriptor(pair[0]);
    linux.close(pair[0]);
    const end = guard(pid);
    groups.remove(&spec);
    // Without a layer PID 1 never got far enough to be of use, and has said why.
    if (spec.has(Flags.layer) and upper < 0) return 1;
    save(upper, layer_file, end);
    return if (end == broken) broken else 0;
}

const grace_s = 2;

/// Waits for PID 1 to end. Whatever is done to it from inside, it does not outlive casemate, nor
/// its word to close, by more than a moment: then it is killed from here, out of their reach.
fn guard(pid: i32) ?u8 {
    const result = linux.raw(.pidfd_open, .{ pid, @as(u32, 0) });
    if (linux.failed(result)) return wait(pid);
    const process: i32 = @intCast(result);
    defer linux.close(process);
    var polled = [2]linux.PollFd{
        .{ .fd = process, .events = linux.POLLIN },
        .{ .fd = socket, .events = linux.POLLRDHUP },
    };
    const grace: linux.Timespec = .{ .sec = grace_s };
    var limit: ?*const linux.Timespec = null;
    var count: usize = polled.len;
    const none: ?*u64 = null;
    while (polled[0].revents == 0) {
        const ready_count = linux.raw(.ppoll, .{ &polled, count, limit, none, @as(usize, 8) });
        if (linux.again(ready_count)) continue;
        if (linux.failed(ready_count) or ready_count == 0) {
            // It is not reaped yet, so the number is still its own.
            _ = linux.raw(.kill, .{ pid, @as(u32, linux.SIGKILL) });
            break;
        }
        limit = &grace;
        count = 1;
    }
    return wait(pid);
}

fn namespaces() u64 {
    const common: u64 = linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWNET |
        linux.CLONE_NEWIPC | linux.CLONE_NEWUTS;
    return if (spec.has(Flags.root)) common else common | linux.CLONE_NEWUSER;
}

/// Exit status of PID 1, or null when it was killed.
fn wait(pid: i32) ?u8 {
    var status: u32 = 0;
    const none: ?*u8 = null;
    while (true) {
        const result = linux.raw(.wait4, .{ pid, &status, @as(u32, 0), none });
        if (linux.again(result)) continue;
        if (linux.failed(result) or status & 0x7f != 0) return null;
        return @intCast((status >> 8) & 0xff);
    }
}

/// A user namespace that maps the project's owner to the outside identity, for idmapped mounts.
/// Source: mount_setattr(2), "ID-mapped mounts".
fn identity_mapping() linux.Error!i32 {
    const result = linux.fork(linux.CLONE_NEWUSER);
    const pid = try linux.descriptor(result, "create user namespace", "");
    if (pid == 0) while (true) {
        // Waits to be killed.
        _ = linux.raw(.ppoll, .{
            @as(?*u8, null), @as(usize, 0), @as(?*u8, null), @as(?*u8, null), @as(usize, 0),
        });
    };
    defer {
        _ = linux.raw(.kill, .{ pid, @as(u32, linux.SIGKILL) });
        _ = wait(pid);
    }
    var path: [40]u8 = undefined;
    var line: [40]u8 = undefined;
    const uid_map = confine.map_line(&line, spec.project_uid, spec.outside_uid);
    try confine.write_file(process_path(&path, pid, "uid_map"), uid_map);
    const gid_map = confine.map_line(&line, spec.project_gid, spec.outside_gid);
    try confine.write_file(process_path(&path, pid, "gid_map"), gid_map);
    const flags: u32 = linux.O_RDONLY | linux.O_CLOEXEC;
    const name = process_path(&path, pid, "ns/user");
    const opened = linux.raw(.openat, .{ linux.AT_FDCWD, name.ptr, flags, @as(u32, 0) });
    return linux.descriptor(opened, "open user namespace", "");
}

fn process_path(buffer: *[40]u8, pid: i32, name: []const u8) [:0]const u8 {
    return std.fmt.bufPrintSentinel(buffer, "/proc/{d}/{s}", .{ pid, name }, 0) catch
        linux.exit(125);
}

const RightsMessage = extern struct { header: linux.ControlHeader, fd: i32, padding: i32 = 0 };

fn send_descriptor(to: i32, fd: i32) linux.Error!void {
    const byte: [1]u8 = .{0};
    const vector: linux.IoVec = .{ .base = &byte, .len = 1 };
    var rights: RightsMessage = .{
        .header = .{
            .length = @sizeOf(linux.ControlHeader) + 4,
            .level = linux.SOL_SOCKET,
            .type = linux.SCM_RIGHTS,
        },
        .fd = fd,
    };
    var message: linux.Message = .{
        .vectors = @ptrCast(&vector),
        .vector_count = 1,
        .control = &rights,
        .control_length = @sizeOf(RightsMessage),
    };
    const sent = linux.raw(.sendmsg, .{ to, &message, @as(u32, linux.MSG_NOSIGNAL) });
    try linux.must(sent, "give the layer to the keeper", "");
}

fn receive_descriptor(from: i32) i32 {
    var byte: [1]u8 = undefined;
    const vector: linux.IoVec = .{ .base = &byte, .len = 1 };
    var rights: RightsMessage = undefined;
    var message: linux.Message = .{
        .vectors = @ptrCast(&vector),
        .vector_count = 1,
        .control = &rights,
        .control_length = @sizeOf(RightsMessage),
    };
    const flags: u32 = linux.MSG_CMSG_CLOEXEC;
    const result = linux.raw(.recvmsg, .{ from, &message, flags });
    if (linux.failed(result) or result == 0) return -1;
    if (message.control_length < @sizeOf(linux.ControlHeader) + 4) return -1;
    return rights.fd;
}

/// Writes the archive. While the disk is full the changes stay in memory and are tried again:
/// the user is told at once and has ten minutes to make room.
fn save(upper: i32, file: i32, end: ?u8) void {
    if (upper < 0) return save_nothing(file);
    const layers_wanted = end != serve.End.discard and !archive.is_empty(upper);
    const held = holdback.concerns(&spec);
    if (!layers_wanted and !held) return save_nothing(file);
    for (0..save_attempts_max) |attempt| {
        var output: archive.Output = .{ .fd = file };
        if (write_archive(&output, upper, layers_wanted, held)) |total| {
            return send_saved(archive.last_errno, total);
        } else |_| {
            if (attempt == 0) send_saved(archive.failure_of(&output), .{});
            // What was taken out of the project is in the file: writing it again would lose it.
            if (held) return;
        }
        const pause: linux.Timespec = .{ .sec = 1 };
        const none: ?*u8 = null;
        _ = linux.raw(.nanosleep, .{ &pause, none });
    }
}

/// A whole archive with no record: an empty file would mean that nobody got to save anything.
fn save_nothing(file: i32) void {
    send_saved(archive.save_nothing(file), .{});
}

fn write_archive(
    output: *archive.Output,
    upper: i32,
    layers_wanted: bool,
    held: bool,
) archive.Error!archive.Total {
    try archive.begin(output);
    if (layers_wanted) try archive.add_layers(output, upper);
    const before = output.total.records;
    if (held) try holdback.collect(&spec, output);
    const empty = !layers_wanted and output.total.records == before;
    const total = try archive.finish(output);
    return if (empty) .{} else total;
}

fn send_saved(errno: u32, total: archive.Total) void {
    var writer: wire.Writer = .{};
    writer.int(u32, errno);
    writer.int(u64, total.bytes);
    writer.int(u64, total.records);
    _ = writer.send(socket, wire.Type.saved, null);
}

/// PID 1, from the first instruction to the last.
fn inside(keeper: i32, idmap: ?i32) linux.Error!noreturn {
    const kill: u64 = linux.SIGKILL;
    try linux.must(linux.prctl(linux.PR_SET_PDEATHSIG, kill, 0), "tie to the keeper", "");
    try groups.join(&spec);
    // Made in its group, the namespace shows that as the root and hides what is above.
    const groups_alone: u64 = linux.CLONE_NEWCGROUP;
    try linux.must(linux.raw(.unshare, .{groups_alone}), "create cgroup namespace", "");
    linux.mark(.born);
    const from_root = spec.has(Flags.root);
    if (!from_root) try confine.map_self(&spec);
    const name = spec.hostname;
    _ = try linux.check(linux.raw(.sethostname, .{ name.ptr, name.len }), "set host name", name);
    try network.raise_loopback();
    try network.listen(&spec);
    linux.mark(.network);
    const mask = linux.raw(.umask, .{@as(u32, 0)});
    tree = .{ .spec = &spec, .idmap = idmap, .watch = .{ .hide = spec.hide } };
    try mounts.build(&tree);
    _ = linux.raw(.umask, .{mask});
    const upper = try linux.descriptor(
        linux.open_beneath(tree.workspace, "upper", linux.O_RDONLY | linux.O_DIRECTORY),
        "open layer",
        "",
    );
    if (from_root) try confine.take_identity(&spec);
    // A change of identity forgets the signal, prctl(2); to a keeper that died before this the
    // descriptor cannot be sent.
    try linux.must(linux.prctl(linux.PR_SET_PDEATHSIG, kill, 0), "tie to the keeper", "");
    try send_descriptor(keeper, upper);
    const descriptors = try ready.settle_descriptors(upper, &tree.watch);
    try ready.raise_oom_score(&spec);
    linux.mark(.identity);
    const confined = try confine.apply(&spec, descriptors.upper, &tree.watch);
    linux.mark(.confined);
    ready.announce(&spec, confined.landlock, tree.hidden);
    var server: serve.Server = .{
        .channel = &channel,
        .spec = &spec,
        .upper = descriptors.upper,
        .null_device = descriptors.null_device,
        .signals = descriptors.signals,
        .watch = &tree.watch,
    };
    linux.exit(server.run());
}
