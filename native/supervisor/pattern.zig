//! Gitignore patterns, already split into components. Source: gitignore(5).
//!
//! The last pattern that matches decides; what lies below a matched directory is the caller's to
//! pass over. The reference is `matches` in src/casemate/policy/patterns.py.

const std = @import("std");

pub const segments_max = 32;
pub const depth_max = 128;

pub const Pattern = struct {
    negated: bool,
    directory_only: bool,
    count: u8,
    shape: Shape = .path,
    last: [:0]u8 = undefined,
    segments: [segments_max][:0]u8,
};

pub const List = []const Pattern;

/// A path as its components, grown and shrunk by the walk.
pub const Path = struct {
    parts: [depth_max][]const u8 = undefined,
    count: usize = 0,

    pub fn push(path: *Path, part: []const u8) bool {
        if (path.count == depth_max) return false;
        path.parts[path.count] = part;
        path.count += 1;
        return true;
    }

    pub fn pop(path: *Path) void {
        path.count -= 1;
    }
};

/// Whether the list, read as gitignore reads it, picks this path itself.
pub fn matches(list: List, path: *const Path, is_directory: bool) bool {
    var i = list.len;
    while (i > 0) {
        i -= 1;
        const pattern = &list[i];
        if (pattern.directory_only and !is_directory) continue;
        if (match_whole(pattern, path)) return !pattern.negated;
    }
    return false;
}

/// Nearly all patterns name a file wherever it is: those need a look at the last part only.
fn match_whole(pattern: *const Pattern, path: *const Path) bool {
    const name = path.parts[path.count - 1];
    const glob = pattern.last;
    return switch (pattern.shape) {
        .path => match_segments(pattern, path),
        .literal => glob.len == name.len and std.mem.eql(u8, glob, name),
        .suffix => std.mem.endsWith(u8, name, glob[1..]),
        .prefix => std.mem.startsWith(u8, name, glob[0 .. glob.len - 1]),
        .general => match_component(glob, name),
    };
}

/// Fills in what `match_whole` goes by, once the segments are there.
pub fn prepare(pattern: *Pattern) void {
    pattern.last = pattern.segments[pattern.count - 1];
    const anywhere = pattern.count == 2 and is_span(pattern.segments[0]);
    const plain = anywhere and pattern.last.len > 0 and !is_span(pattern.last);
    pattern.shape = if (plain) shape_of(pattern.last) else .path;
}

/// What a pattern amounts to: most are a name, an ending or a beginning, wherever it is.
pub const Shape = enum { path, literal, suffix, prefix, general };

fn shape_of(glob: []const u8) Shape {
    const special = "*?[\\";
    if (std.mem.findAny(u8, glob, special) == null) return .literal;
    if (glob[0] == '*' and std.mem.findAny(u8, glob[1..], special) == null) return .suffix;
    const last = glob.len - 1;
    if (glob[last] == '*' and std.mem.findAny(u8, glob[0..last], special) == null) return .prefix;
    return .general;
}

/// Iterative, with one point to return to: `**` may take one component more, and only the last
/// `**` ever needs to, so the cost is at most components times segments.
fn match_segments(pattern: *const Pattern, path: *const Path) bool {
    var s: usize = 0;
    var p: usize = 0;
    var retry_segment: ?usize = null;
    var retry_part: usize = 0;
    while (p < path.count) {
        if (s < pattern.count and is_span(pattern.segments[s])) {
            // A closing `**` stands for what is inside the directory, so for at least one part.
            if (s + 1 == pattern.count) return true;
            retry_segment = s;
            retry_part = p;
            s += 1;
            continue;
        }
        if (s < pattern.count and match_component(pattern.segments[s], path.parts[p])) {
            s += 1;
            p += 1;
            continue;
        }
        const back = retry_segment orelse return false;
        retry_part += 1;
        p = retry_part;
        s = back + 1;
    }
    return s == pattern.count;
}

fn is_span(segment: []const u8) bool {
    return std.mem.eql(u8, segment, "**");
}

/// fnmatch(3) within one component: `*`, `?`, `[...]`, and backslash.
pub fn match_component(glob: []const u8, name: []const u8) bool {
    var g: usize = 0;
    var n: usize = 0;
    var star: ?usize = null;
    var star_name: usize = 0;
    while (n < name.len) {
        if (g < glob.len and glob[g] == '*') {
            star = g;
            star_name = n;
            g += 1;
            continue;
        }
        if (g < glob.len) if (match_one(glob, g, name[n])) |width| {
            g += width;
            n += 1;
            continue;
        };
        const back = star orelse return false;
        star_name += 1;
        n = star_name;
        g = back + 1;
    }
    while (g < glob.len and glob[g] == '*') g += 1;
    return g == glob.len;
}

/// How many glob bytes match this one character, or null.
fn match_one(glob: []const u8, at: usize, character: u8) ?usize {
    switch (glob[at]) {
        '?' => return 1,
        '\\' => {
            if (at + 1 == glob.len) return null;
            return if (glob[at + 1] == character) 2 else null;
        },
        '[' => return match_set(glob, at, character),
        else => |literal| return if (literal == character) 1 else null,
    }
}

const SetItem = struct { value: u8, next: usize };

fn set_item(glob: []const u8, at: usize) ?SetItem {
    if (at >= glob.len) return null;
    if (glob[at] != '\\') return .{ .value = glob[at], .next = at + 1 };
    if (at + 1 >= glob.len) return null;
    return .{ .value = glob[at + 1], .next = at + 2 };
}

fn match_set(glob: []const u8, at: usize, character: u8) ?usize {
    var g = at + 1;
    const inverted = g < glob.len and (glob[g] == '!' or glob[g] == '^');
    if (inverted) g += 1;
    var found = false;
    var first = true;
    while (true) : (first = false) {
        if (g >= glob.len) return null;
        if (glob[g] == ']' and !first) break;
        if (named_class(glob, g)) |class| {
            if (in_class(class.name, character)) found = true;
            g = class.next;
            continue;
        }
        const low = set_item(glob, g) orelse return null;
        g = low.next;
        var high = low.value;
        if (g + 1 < glob.len and glob[g] == '-' and glob[g + 1] != ']') {
            const end = set_item(glob, g + 1) orelse return null;
            high = end.value;
            g = end.next;
        }
        // The start of a range counts by itself, as in git, even where the range is empty.
        const within = low.value <= character and character <= high;
        if (within or character == low.value) found = true;
    }
    return if (found != inverted) g + 1 - at else null;
}

const Class = struct { name: []const u8, next: usize };

fn named_class(glob: []const u8, at: usize) ?Class {
    if (at + 1 >= glob.len or glob[at] != '[' or glob[at + 1] != ':') return null;
    const end = std.mem.findPos(u8, glob, at + 2, ":]") orelse return null;
    return .{ .name = glob[at + 2 .. end], .next = end + 2 };
}

fn in_class(name: []const u8, character: u8) bool {
    const ascii = std.ascii;
    const equal = std.mem.eql;
    if (equal(u8, name, "alpha")) return ascii.isAlphabetic(character);
    if (equal(u8, name, "digit")) return ascii.isDigit(character);
    if (equal(u8, name, "alnum")) return ascii.isAlphanumeric(character);
    if (equal(u8, name, "upper")) return ascii.isUpper(character);
    if (equal(u8, name, "lower")) return ascii.isLower(character);
    if (equal(u8, name, "space")) return ascii.isWhitespace(character);
    if (equal(u8, name, "xdigit")) return ascii.isHex(character);
    if (equal(u8, name, "cntrl")) return ascii.isControl(character);
    if (equal(u8, name, "print")) return ascii.isPrint(character);
    if (equal(u8, name, "graph")) return ascii.isGraphical(character);
    if (equal(u8, name, "blank")) return character == ' ' or character == '\t';
    if (equal(u8, name, "punct")) {
        return ascii.isGraphical(character) and !ascii.isAlphanumeric(character);
    }
    return false;
}
