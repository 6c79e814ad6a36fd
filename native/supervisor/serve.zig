//! The life of PID 1: takes requests, starts and signals commands, reaps, enforces time and
//! memory, and ends the session when casemate is gone. Source: pid_namespaces(7).

const std = @import("std");
const linux = @import("linux.zig");
const wire = @import("wire.zig");
const spawn = @import("spawn.zig");
const archive = @import("archive.zig");
const processes = @import("processes.zig");
const watch_module = @import("watch.zig");
const Watch = watch_module.Watch;
const Spec = @import("spec.zig").Spec;

const jobs_max = 1024;
/// The low byte of the status of a process that was stopped. wait(2)
const stopped = 0x7f;
const usage_interval_ms = 100;

const Kind = enum { command, snapshot };

const Job = struct {
    used: bool = false,
    kind: Kind = .command,
    id: u32 = 0,
    pid: i32 = 0,
    terminal: i32 = -1,
    started_ns: u64 = 0,
    deadline_ns: u64 = 0,
    reason: u32 = 0,
};

const Reason = struct {
    const time = 1;
    const memory = 2;
    const space = 3;
};

/// How the session ended, as the exit status of PID 1 tells the keeper.
pub const End = struct {
    pub const keep = 0;
    pub const discard = 3;
};

pub const Server = struct {
    channel: *wire.Channel,
    spec: *const Spec,
    upper: i32,
    null_device: i32,
    signals: i32,
    watch: *Watch,
    session_deadline_ns: u64 = 0,
    /// The session's time is over: nothing is started any more.
    expired: bool = false,
    usage_due_ns: u64 = 0,
    watch_due_ns: u64 = 0,
    space: ?processes.Space = null,

    var jobs: [jobs_max]Job = @splat(.{});

    /// Serves until casemate closes the session or disappears; the value is PID 1's exit status.
    pub fn run(server: *Server) u8 {
        const now = linux.now_ns(linux.CLOCK_MONOTONIC);
        if (server.spec.time_limit_ms > 0) {
            server.session_deadline_ns = now +| server.spec.time_limit_ms *| 1_000_000;
        }
        if (server.spec.space_watch_bytes > 0) server.space = processes.Space.open(server.spec);
        if (server.spec.memory_watch > 0 or server.space != null) server.usage_due_ns = now;
        if (server.watch.wanted()) server.watch_due_ns = now + watch_module.delay_ns;
        while (true) {
            while (server.channel.poll() catch return End.keep) |frame| {
                if (server.handle(frame) catch return End.keep) |end| return end;
            }
            server.wait() catch return End.keep;
        }
    }

    fn wait(server: *Server) wire.Channel.End!void {
        var polled = [3]linux.PollFd{
            .{ .fd = server.channel.socket, .events = linux.POLLIN },
            .{ .fd = server.signals, .events = linux.POLLIN },
            // A negative number is passed over.
            .{ .fd = server.watch.fd, .events = linux.POLLIN },
        };
        const now = linux.now_ns(linux.CLOCK_MONOTONIC);
        var timeout: linux.Timespec = .{};
        const due = server.next_deadline();
        if (due != 0) {
            const left = due -| now;
            timeout.sec = @intCast(left / 1_000_000_000);
            timeout.nsec = @intCast(left % 1_000_000_000);
        }
        const limit: ?*linux.Timespec = if (due == 0) null else &timeout;
        const none: ?*u64 = null;
        const count: usize = polled.len;
        const result = linux.raw(.ppoll, .{ &polled, count, limit, none, @as(usize, 8) });
        if (linux.again(result)) return;
        // Such as a limit on descriptors that somebody inside set for this process: nothing can be
        // waited for any more, so the session ends.
        if (linux.failed(result)) return error.Closed;
        if (polled[2].revents != 0) server.watch.handle();
        if (polled[1].revents != 0) server.reap();
        server.enforce();
        if (polled[0].revents != 0) try server.channel.fill();
    }

    fn next_deadline(server: *const Server) u64 {
        var due = server.session_deadline_ns;
        for ([_]u64{ server.usage_due_ns, server.watch_due_ns }) |other| {
            if (other != 0 and (due == 0 or other < due)) due = other;
        }
        for (&jobs) |*job| {
            if (!job.used or job.deadline_ns == 0) continue;
            if (due == 0 or job.deadline_ns < due) due = job.deadline_ns;
        }
        return due;
    }

    fn handle(server: *Server, frame: wire.Frame) wire.Malformed!?u8 {
        var reader: wire.Reader = .{ .bytes = frame.payload };
        switch (frame.kind) {
            wire.Type.exec => try server.exec(frame),
            wire.Type.signal => {
                const id = try reader.int(u32);
                const number = try reader.int(u32);
                try reader.finish();
                if (number == 0 or number > 64) return error.Malformed;
                signal(id, number);
            },
            wire.Type.resize => {
                const id = try reader.int(u32);
                const rows = try reader.int(u16);
                const columns = try reader.int(u16);
                try reader.finish();
                if (find(id)) |job| if (job.terminal >= 0) {
                    spawn.resize(job.terminal, rows, columns);
                };
            },
            wire.Type.snapshot => try server.snapshot(frame),
            wire.Type.ping => {
                const value = try reader.int(u64);
                try reader.finish();
                var writer: wire.Writer = .{};
                writer.int(u64, value);
                _ = writer.send(server.channel.socket, wire.Type.pong, null);
            },
            wire.Type.close => {
                const flags = try reader.int(u32);
                try reader.finish();
                return if (flags & 1 != 0) End.discard else End.keep;
            },
            else => return error.Malformed,
        }
        return null;
    }

    fn exec(server: *Server, frame: wire.Frame) wire.Malformed!void {
        const request = try spawn.parse(frame);
        if (server.expired) {
            return server.send_failed(request.id, @backingInt(linux.E.TIME));
        }
        const job = free_job() orelse {
            return server.send_failed(request.id, @backingInt(linux.E.AGAIN));
        };
        switch (spawn.start(&request, server.null_device, server.spec.limits)) {
            .failed => |errno| server.send_failed(request.id, errno),
            .started => |started| {
                const now = linux.now_ns(linux.CLOCK_MONOTONIC);
                job.* = .{
                    .used = true,
                    .id = request.id,
                    .pid = started.pid,
                    .terminal = started.terminal,
                    .started_ns = now,
                };
                if (request.time_limit_ms > 0) {
                    job.deadline_ns = now +| request.time_limit_ms *| 1_000_000;
                }
                const master: ?i32 = if (started.terminal >= 0) started.terminal else null;
                var writer: wire.Writer = .{};
                writer.int(u32, request.id);
                writer.int(i32, started.pid);
                _ = writer.send(server.channel.socket, wire.Type.started, master);
            },
        }
    }

    /// A child writes the archive, so that a large one keeps nobody waiting.
    fn snapshot(server: *Server, frame: wire.Frame) wire.Malformed!void {
        var reader: wire.Reader = .{ .bytes = frame.payload };
        const id = try reader.int(u32);
        try reader.finish();
        if (frame.descriptors.len != 1) return error.Malformed;
        const job = free_job() orelse {
            return server.send_failed(id, @backingInt(linux.E.AGAIN));
        };
        const result = linux.fork(0);
        if (linux.failed(result)) {
            return server.send_failed(id, @backingInt(linux.errno(result)));
        }
        if (result == 0) {
            _ = archive.save(server.upper, frame.descriptors[0]) catch linux.exit(1);
            linux.exit(0);
        }
        job.* = .{
            .used = true,
            .kind = .snapshot,
            .id = id,
            .pid = @intCast(result),
            .started_ns = linux.now_ns(linux.CLOCK_MONOTONIC),
        };
    }

    fn send_failed(server: *Server, id: u32, errno: u32) void {
        server.send_exited(id, 2, errno, 0, &std.mem.zeroes(linux.Rusage), 0);
    }

    fn send_exited(
        server: *Server,
        id: u32,
        kind: u32,
        status: u32,
        reason: u32,
        usage: *const linux.Rusage,
        wall_us: u64,
    ) void {
        var writer: wire.Writer = .{};
        writer.int(u32, id);
        writer.int(u32, kind);
        writer.int(u32, status);
        writer.int(u32, reason);
        writer.int(u64, microseconds(usage.user));
        writer.int(u64, microseconds(usage.system));
        writer.int(u64, @as(u64, @intCast(@max(0, usage.max_resident_kib))) * 1024);
        writer.int(u64, wall_us);
        _ = writer.send(server.channel.socket, wire.Type.exited, null);
    }

    fn reap(server: *Server) void {
        var discard: [16 * 128]u8 = undefined;
        const size: usize = discard.len;
        // What arrived does not matter, only that something did.
        _ = linux.raw(.read, .{ server.signals, &discard, size });
        while (true) {
            var status: u32 = 0;
            var usage: linux.Rusage = undefined;
            const any: i32 = -1;
            const no_hang_or_stopped: u32 = 1 | 2;
            const result = linux.raw(.wait4, .{ any, &status, no_hang_or_stopped, &usage });
            if (linux.again(result)) continue;
            if (linux.failed(result) or result == 0) return;
            const job = find_pid(@intCast(result)) orelse continue;
            if (status & 0xff == stopped) {
                // A command may stop; what saves its changes is not to be held up from inside.
                if (job.kind == .snapshot) {
                    _ = linux.raw(.kill, .{ job.pid, @as(u32, linux.SIGCONT) });
                }
                continue;
            }
            const now = linux.now_ns(linux.CLOCK_MONOTONIC);
            const signalled = status & 0x7f != 0;
            const value = if (signalled) status & 0x7f else (status >> 8) & 0xff;
            const wall = (now - job.started_ns) / 1000;
            const kind: u32 = if (signalled) 1 else 0;
            linux.close(job.terminal);
            job.used = false;
            server.send_exited(job.id, kind, value, job.reason, &usage, wall);
        }
    }

    fn enforce(server: *Server) void {
        const now = linux.now_ns(linux.CLOCK_MONOTONIC);
        for (&jobs) |*job| {
            if (!job.used or job.deadline_ns == 0 or now < job.deadline_ns) continue;
            job.deadline_ns = 0;
            job.reason = Reason.time;
            processes.kill_tree(job.pid);
        }
        if (server.session_deadline_ns != 0 and now >= server.session_deadline_ns) {
            server.session_deadline_ns = 0;
            server.expired = true;
            server.end_all(Reason.time, "the session's time is up");
        }
        if (server.usage_due_ns != 0 and now >= server.usage_due_ns) {
            server.usage_due_ns = now + usage_interval_ms * 1_000_000;
            server.check_usage();
        }
        if (server.watch_due_ns != 0 and now >= server.watch_due_ns) {
            server.watch_due_ns = 0;
            server.watch.begin();
        }
    }

    /// What no kernel limit holds here is looked at ten times a second.
    fn check_usage(server: *Server) void {
        const memory = server.spec.memory_watch;
        if (memory > 0 and processes.memory_in_use(server.upper) > memory) {
            server.end_all(Reason.memory, "the session used more memory than allowed");
        }
        if (server.space) |*space| if (space.exceeded(server.spec)) {
            server.end_all(Reason.space, "the session used more disk space than allowed");
            server.space = null;
        };
    }

    fn end_all(server: *Server, reason: u32, text: []const u8) void {
        for (&jobs) |*job| {
            if (job.used and job.kind == .command) job.reason = reason;
        }
        processes.kill_everyone();
        var writer: wire.Writer = .{};
        writer.int(u32, reason);
        writer.string(text);
        _ = writer.send(server.channel.socket, wire.Type.notice, null);
    }

    fn free_job() ?*Job {
        for (&jobs) |*job| if (!job.used) return job;
        return null;
    }

    fn find(id: u32) ?*Job {
        for (&jobs) |*job| if (job.used and job.id == id) return job;
        return null;
    }

    fn find_pid(pid: i32) ?*Job {
        for (&jobs) |*job| if (job.used and job.pid == pid) return job;
        return null;
    }

    fn signal(id: u32, number: u32) void {
        for (&jobs) |*job| {
            if (!job.used or job.kind != .command or (id != 0 and job.id != id)) continue;
            if (number == linux.SIGKILL) {
                processes.kill_tree(job.pid);
            } else if (job.terminal < 0 or !signal_foreground(job.terminal, number)) {
                _ = linux.raw(.kill, .{ -job.pid, number });
            }
        }
    }

    /// With a terminal the group in its foreground is meant, as when keys are pressed.
    fn signal_foreground(terminal: i32, number: u32) bool {
        const TIOCSIG: u32 = 0x40045436;
        return !linux.failed(linux.raw(.ioctl, .{ terminal, TIOCSIG, number }));
    }
};

fn microseconds(time: linux.TimeValue) u64 {
    return @as(u64, @intCast(time.sec)) * 1_000_000 + @as(u64, @intCast(time.usec));
}
