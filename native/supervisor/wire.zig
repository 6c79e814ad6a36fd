//! Frames: how bytes and descriptors travel between casemate and the supervisor.
//! The layout is docs/protocol.md. Every length is checked before it is used.

const std = @import("std");
const linux = @import("linux.zig");

pub const payload_max = 8 << 20;
pub const reply_max = 64 << 10;
pub const header_size = 8;
const descriptors_max = 16;

pub const Type = struct {
    pub const init = 1;
    pub const exec = 2;
    pub const signal = 3;
    pub const resize = 4;
    pub const snapshot = 5;
    pub const ping = 6;
    pub const close = 7;
    pub const ready = 65;
    pub const failed = 66;
    pub const started = 67;
    pub const exited = 68;
    pub const notice = 69;
    pub const pong = 70;
    pub const saved = 71;
    pub const listener = 72;
};

pub const Malformed = error{Malformed};

/// Reads little-endian fields off a payload and never past its end.
pub const Reader = struct {
    bytes: []u8,
    at: usize = 0,

    pub fn take(reader: *Reader, count: usize) Malformed![]u8 {
        if (count > reader.bytes.len - reader.at) return error.Malformed;
        defer reader.at += count;
        return reader.bytes[reader.at..][0..count];
    }

    pub fn int(reader: *Reader, comptime T: type) Malformed!T {
        const size = @sizeOf(T);
        return std.mem.readInt(T, (try reader.take(size))[0..size], .little);
    }

    /// A string with its closing zero, in place: usable as a C string for as long as the payload.
    pub fn string(reader: *Reader) Malformed![:0]u8 {
        const length = try reader.int(u32);
        if (length >= reader.bytes.len) return error.Malformed;
        const bytes = try reader.take(@as(usize, length) + 1);
        if (bytes[length] != 0) return error.Malformed;
        return bytes[0..length :0];
    }

    /// A string that will be used as a path or argument, so no zero may hide inside.
    pub fn text(reader: *Reader) Malformed![:0]u8 {
        const value = try reader.string();
        if (std.mem.findScalar(u8, value, 0) != null) return error.Malformed;
        return value;
    }

    pub fn finish(reader: *const Reader) Malformed!void {
        if (reader.at != reader.bytes.len) return error.Malformed;
    }
};

/// Builds one reply frame in a fixed buffer.
pub const Writer = struct {
    buffer: [512]u8 = undefined,
    at: usize = header_size,

    pub fn int(writer: *Writer, comptime T: type, value: T) void {
        const size = @sizeOf(T);
        std.debug.assert(writer.at + size <= writer.buffer.len);
        std.mem.writeInt(T, writer.buffer[writer.at..][0..size], value, .little);
        writer.at += size;
    }

    /// Cut to what fits: these texts are for people, the codes beside them for programs.
    pub fn string(writer: *Writer, value: []const u8) void {
        const room = writer.buffer.len - writer.at - 5;
        const length = @min(value.len, @min(room, 200));
        writer.int(u32, @intCast(length));
        @memcpy(writer.buffer[writer.at..][0..length], value[0..length]);
        writer.buffer[writer.at + length] = 0;
        writer.at += length + 1;
    }

    pub fn send(writer: *Writer, socket: i32, kind: u8, fd: ?i32) bool {
        const length: u32 = @intCast(writer.at - header_size);
        std.mem.writeInt(u32, writer.buffer[0..4], length, .little);
        writer.buffer[4] = kind;
        writer.buffer[5] = if (fd == null) 0 else 1;
        writer.buffer[6] = 0;
        writer.buffer[7] = 0;
        return send_bytes(socket, writer.buffer[0..writer.at], fd);
    }
};

const Control = extern struct {
    header: linux.ControlHeader,
    descriptors: [descriptors_max]i32,
};

fn send_bytes(socket: i32, bytes: []const u8, fd: ?i32) bool {
    var sent: usize = 0;
    while (sent < bytes.len) {
        const vector: linux.IoVec = .{ .base = bytes.ptr + sent, .len = bytes.len - sent };
        var message: linux.Message = .{ .vectors = @ptrCast(&vector), .vector_count = 1 };
        var control: Control = undefined;
        if (fd) |descriptor| if (sent == 0) {
            control.header = .{
                .length = @sizeOf(linux.ControlHeader) + 4,
                .level = linux.SOL_SOCKET,
                .type = linux.SCM_RIGHTS,
            };
            control.descriptors[0] = descriptor;
            message.control = &control;
            message.control_length = @sizeOf(linux.ControlHeader) + 8;
        };
        const result = linux.raw(.sendmsg, .{ socket, &message, @as(u32, linux.MSG_NOSIGNAL) });
        if (linux.again(result)) continue;
        if (linux.failed(result)) return false;
        sent += result;
    }
    return true;
}

/// One frame as received. `payload` and the descriptors are valid until the next receive.
pub const Frame = struct {
    kind: u8,
    payload: []u8,
    descriptors: []const i32,
};

/// Collects frames from the socket. A frame may arrive in pieces; descriptors queue beside it.
pub const Channel = struct {
    socket: i32,
    /// Where frames are read to: behind what is kept.
    start: usize = 0,
    filled: usize = 0,
    /// Length of the frame last handed out: removed at the next call.
    consumed: usize = 0,
    descriptors: [descriptors_max]i32 = undefined,
    descriptor_count: usize = 0,
    descriptors_consumed: usize = 0,

    /// Static: a page is only backed by memory once a frame is long enough to touch it.
    /// Room for one frame that is kept and one that is read. What is not touched costs nothing.
    var buffer: [2 * (header_size + payload_max)]u8 align(16) = undefined;

    pub const End = error{ Closed, Malformed };

    /// The next whole frame, blocking until it is there.
    pub fn next(channel: *Channel) End!Frame {
        while (true) {
            if (try channel.poll()) |frame| return frame;
            try channel.fill();
        }
    }

    /// The next whole frame if it has arrived already.
    pub fn poll(channel: *Channel) End!?Frame {
        channel.drop_consumed();
        if (channel.filled < header_size) return null;
        const held = buffer[channel.start..];
        const length = std.mem.readInt(u32, held[0..4], .little);
        if (length > payload_max or held[6] != 0 or held[7] != 0) return error.Malformed;
        const whole = header_size + @as(usize, length);
        if (channel.filled < whole) return null;
        const wanted = held[5];
        if (wanted > channel.descriptor_count) return error.Malformed;
        channel.consumed = whole;
        channel.descriptors_consumed = wanted;
        return .{
            .kind = held[4],
            .payload = held[header_size..whole],
            .descriptors = channel.descriptors[0..wanted],
        };
    }

    /// Keeps the last frame where it is for good: what was parsed from it points into it.
    pub fn keep_frame(channel: *Channel) void {
        channel.start += channel.consumed;
        channel.filled -= channel.consumed;
        channel.consumed = 0;
    }

    /// Descriptors of the last frame that its handler keeps open.
    pub fn keep_descriptors(channel: *Channel) void {
        const rest = channel.descriptor_count - channel.descriptors_consumed;
        for (0..rest) |i| {
            channel.descriptors[i] = channel.descriptors[channel.descriptors_consumed + i];
        }
        channel.descriptor_count = rest;
        channel.descriptors_consumed = 0;
    }

    fn drop_consumed(channel: *Channel) void {
        for (channel.descriptors[0..channel.descriptors_consumed]) |fd| linux.close(fd);
        channel.keep_descriptors();
        if (channel.consumed == 0) return;
        const rest = channel.filled - channel.consumed;
        const held = buffer[channel.start..];
        std.mem.copyForwards(u8, held[0..rest], held[channel.consumed..channel.filled]);
        channel.filled = rest;
        channel.consumed = 0;
    }

    /// Receives once. Descriptors that do not fit end the session: they must never pile up.
    pub fn fill(channel: *Channel) End!void {
        const vector: linux.IoVec = .{
            .base = buffer[channel.start + channel.filled ..].ptr,
            .len = buffer.len - channel.start - channel.filled,
        };
        var control: Control align(8) = undefined;
        var message: linux.Message = .{
            .vectors = @ptrCast(&vector),
            .vector_count = 1,
            .control = &control,
            .control_length = @sizeOf(Control),
        };
        const flags: u32 = linux.MSG_CMSG_CLOEXEC;
        const result = linux.raw(.recvmsg, .{ channel.socket, &message, flags });
        if (linux.again(result)) return;
        if (linux.failed(result)) return error.Closed;
        try channel.queue(&control, message.control_length);
        if (message.flags & linux.MSG_CTRUNC != 0) return error.Malformed;
        if (result == 0) return error.Closed;
        channel.filled += result;
    }

    fn queue(channel: *Channel, control: *const Control, length: usize) End!void {
        if (length < @sizeOf(linux.ControlHeader)) return;
        const header = control.header;
        if (header.level != linux.SOL_SOCKET or header.type != linux.SCM_RIGHTS) return;
        const count = (header.length - @sizeOf(linux.ControlHeader)) / 4;
        for (control.descriptors[0..@min(count, descriptors_max)]) |fd| {
            if (channel.descriptor_count == descriptors_max) {
                linux.close(fd);
                return error.Malformed;
            }
            channel.descriptors[channel.descriptor_count] = fd;
            channel.descriptor_count += 1;
        }
    }
};
