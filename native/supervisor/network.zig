//! The sandbox's network: its own loopback, and listeners in which every way out ends.
//!
//! A local route for every address makes all of them the loopback's, so that a connection to any
//! address and a listened port reaches a listener here, and its own address tells which was meant.
//! The listeners go to the host and are closed: nothing inside can accept on them.
//! Sources: netdevice(7), rtnetlink(7), ip(7), ipv6(7).

const std = @import("std");
const linux = @import("linux.zig");
const wire = @import("wire.zig");
const ready = @import("ready.zig");
const Spec = @import("spec.zig").Spec;

const InterfaceRequest = extern struct { name: [16]u8, flags: i16, rest: [22]u8 };
const IFF_UP = 1;

pub fn raise_loopback() linux.Error!void {
    const kind: u32 = linux.SOCK_DGRAM | linux.SOCK_CLOEXEC;
    const result = linux.raw(.socket, .{ @as(u32, linux.AF_INET), kind, @as(u32, 0) });
    const socket = try linux.descriptor(result, "open socket", "");
    defer linux.close(socket);
    var request: InterfaceRequest = .{ .name = @splat(0), .flags = IFF_UP, .rest = @splat(0) };
    @memcpy(request.name[0..2], "lo");
    const set: u32 = linux.SIOCSIFFLAGS;
    _ = try linux.check(linux.raw(.ioctl, .{ socket, set, &request }), "raise loopback", "");
}

const Kind = enum(u8) { tcp = 0, udp = 1 };

/// Makes the listeners of the plan and sends each to the host.
pub fn listen(spec: *const Spec) linux.Error!void {
    if (spec.listeners_count == 0) return;
    try route(linux.AF_INET);
    const dual = if (route(linux.AF_INET6)) true else |_| false;
    var reader = spec.listeners;
    for (0..spec.listeners_count) |index| {
        const kind = reader.int(u8) catch return malformed();
        const port = reader.int(u16) catch return malformed();
        if (kind > @backingInt(Kind.udp)) return malformed();
        const socket = try listener(@fromBackingInt(@as(u8, kind)), port, dual);
        defer linux.close(socket);
        var writer: wire.Writer = .{};
        writer.int(u32, @intCast(index));
        if (!writer.send(ready.socket, wire.Type.listener, socket)) {
            return linux.fail(.PIPE, "send listener", "");
        }
    }
}

fn malformed() linux.Error {
    return linux.fail(.INVAL, "read listeners", "");
}

const Address = extern struct { family: u16, port: u16, rest: [24]u8 = @splat(0) };
const address_size_4 = 16;
const address_size_6 = 28;
/// Connections wait here while the broker comes up.
const backlog: u32 = 4096;

/// A socket for every address of the port. One for both families where there is IPv6; the name
/// service is asked at an IPv4 address and answers at that.
fn listener(kind: Kind, port: u16, dual: bool) linux.Error!i32 {
    const six = dual and kind == .tcp;
    const family: u32 = if (six) linux.AF_INET6 else linux.AF_INET;
    const shape: u32 = if (kind == .tcp) linux.SOCK_STREAM else linux.SOCK_DGRAM;
    const flags: u32 = shape | linux.SOCK_CLOEXEC | linux.O_NONBLOCK;
    const made = linux.raw(.socket, .{ family, flags, @as(u32, 0) });
    const socket = try linux.descriptor(made, "open listener", "");
    errdefer linux.close(socket);
    if (six) {
        const IPPROTO_IPV6: u32 = 41;
        const IPV6_V6ONLY: u32 = 26;
        const off: u32 = 0;
        const size: u32 = 4;
        const set = linux.raw(.setsockopt, .{ socket, IPPROTO_IPV6, IPV6_V6ONLY, &off, size });
        try linux.must(set, "open listener", "for both families");
    }
    const address: Address = .{ .family = @intCast(family), .port = @byteSwap(port) };
    const length: u32 = if (six) address_size_6 else address_size_4;
    try linux.must(linux.raw(.bind, .{ socket, &address, length }), "bind listener", "");
    if (kind == .tcp) try linux.must(linux.raw(.listen, .{ socket, backlog }), "listen", "");
    return socket;
}

const RouteRequest = extern struct {
    length: u32 = @sizeOf(RouteRequest),
    type: u16 = 24, // RTM_NEWROUTE
    flags: u16 = 0x605, // NLM_F_REQUEST, ACK, CREATE, EXCL
    sequence: u32 = 1,
    port: u32 = 0,
    family: u8,
    destination_length: u8 = 0,
    source_length: u8 = 0,
    service: u8 = 0,
    table: u8 = 255, // RT_TABLE_LOCAL
    protocol: u8 = 3, // RTPROT_BOOT
    scope: u8,
    kind: u8 = 2, // RTN_LOCAL
    more_flags: u32 = 0,
    attribute_length: u16 = 8,
    attribute: u16 = 4, // RTA_OIF
    interface: u32 = 1, // the loopback is the first of every namespace
};

const Acknowledgement = extern struct {
    length: u32,
    type: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    status: i32,
    request: [16]u8,
};

/// Every address of the family is the loopback's own.
fn route(family: u8) linux.Error!void {
    const kind: u32 = linux.SOCK_RAW | linux.SOCK_CLOEXEC;
    const made = linux.raw(.socket, .{ @as(u32, linux.AF_NETLINK), kind, @as(u32, 0) });
    const socket = try linux.descriptor(made, "open route socket", "");
    defer linux.close(socket);
    const host_scope = 254;
    const scope: u8 = if (family == linux.AF_INET) host_scope else 0;
    const request: RouteRequest = .{ .family = family, .scope = scope };
    const none: usize = 0;
    const size: usize = @sizeOf(RouteRequest);
    const sent = linux.raw(.sendto, .{ socket, &request, size, none, none, none });
    try linux.must(sent, "add route", "");
    var answer: [256]u8 align(4) = undefined;
    const room: usize = answer.len;
    const received = linux.raw(.recvfrom, .{ socket, &answer, room, none, none, none });
    const count = try linux.check(received, "add route", "");
    const acknowledgement: *const Acknowledgement = @ptrCast(&answer);
    const NLMSG_ERROR = 2;
    if (count < @sizeOf(Acknowledgement) or acknowledgement.type != NLMSG_ERROR) {
        return linux.fail(.PROTO, "add route", "");
    }
    if (acknowledgement.status != 0) return linux.fail(.OPNOTSUPP, "add route", "");
}

comptime {
    std.debug.assert(@sizeOf(RouteRequest) == 36);
    std.debug.assert(@sizeOf(Address) == address_size_6);
}
