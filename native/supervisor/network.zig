//! The sandbox's network: its own loopback, nothing else. Source: netdevice(7).

const linux = @import("linux.zig");

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
