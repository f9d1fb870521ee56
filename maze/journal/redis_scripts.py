"""The Lua scripts of a Redis journal. Redis runs each script without interruption.

Each script writes at most once. Redis logs a script with several writes as a transaction. If a
crash cuts the append-only file within one, Redis (7.0 to 8, and Valkey) may leave its beginning
in the file; what is written after it then counts as part of the transaction, and is dropped at the
start after next. A single write has no such beginning: it is in the file, or it is not.

A script compares positions only for equality, as texts: a Lua number is exact up to 2**53, and the
numbers of a journal go up to 2**63.

The answer is a list; its first element says what it is.
"""

from hashlib import sha1

from maze.journal.redis_entries import HEAD_BYTES

_EVEN_IF_FULL = "#!lua flags=allow-oom\n"
"""First line of a script that Redis accepts even while its memory is full. So a writer can begin at
that time, and remove what is old."""

_CHECK_STREAM = """
if redis.call('EXISTS', KEYS[2]) == 0 then return {'GONE'} end
local lease = redis.call('GET', KEYS[1])
"""

_CHECK_FENCE = (
    _CHECK_STREAM
    + """
if not lease or string.match(lease, '^%d+') ~= ARGV[1] then return {'FENCED'} end
"""
)
"""The first keys are lease and stream, and the first argument is the writer's fence."""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""

_PARSE_LEASE = """
local fence, ending, holder = '0', '0', ''
if lease then fence, ending, holder = string.match(lease, '^(%d+) (%d+) (.*)$') end
fence, ending = tonumber(fence), tonumber(ending)
"""

_CHECK_NEWEST = """
if redis.call('GET', KEYS[3]) ~= ARGV[2] then return {'REPLACED'} end
"""

_LAST_ID = """
local function last_id()
    local info = redis.call('XINFO', 'STREAM', KEYS[2])
    for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then return info[i + 1], info end
    end
end
"""


class Script:
    """A script and the name by which Redis knows it."""

    def __init__(self, *parts: str) -> None:
        self.text = "".join(parts)
        self.sha = sha1(self.text.encode(), usedforsecurity=False).hexdigest()


CREATE = Script(
    _LAST_ID,
    """
local origin = redis.call('GET', KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 0 then
    if origin then return {'HEADLESS', 'its batches are gone'} end
    redis.call('XADD', KEYS[2], 'MAXLEN', '=', 0, ARGV[2], 'b', '')
    return {'AGAIN'}
end
if not origin then
    if redis.call('XLEN', KEYS[2]) > 0 then
        return {'HEADLESS', 'it has batches, but no key ' .. KEYS[1]}
    end
    redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. last_id())
end
return {'OK'}
""",
)
"""Create a journal unless there is one: first the empty stream (2), then the key that says where it
begins (1). Call it again if the answer is AGAIN. Arguments: format and position."""

STATE = Script(
    _LAST_ID,
    """
local origin = redis.call('GET', KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 0 then return {origin or '', ''} end
local last, info = last_id()
local answer = {origin or '', last}
for i = 1, #info, 2 do
    if (info[i] == 'first-entry' or info[i] == 'last-entry') and info[i + 1] then
        local id, fields = unpack(info[i + 1])
        answer[#answer + 1] = id
        answer[#answer + 1] = string.sub(fields[2], 1, HEAD)
        answer[#answer + 1] = #fields[2]
    end
end
return answer
""".replace("HEAD", str(HEAD_BYTES)),
)
"""Return where the journal begins (key 1), the id of the last entry of the stream (2), whether or
not it was removed; then, unless the stream is empty, id, head and size of its first entry and of
its last one."""

OLDEST = Script(
    """
local found, from, bytes = {}, '-', 0
while #found < 3 * ARGV[1] and bytes < tonumber(ARGV[2]) do
    local entry = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 1)[1]
    if not entry then break end
    local value = entry[2][2]
    found[#found + 1] = entry[1]
    found[#found + 1] = string.sub(value, 1, HEAD)
    found[#found + 1] = #value
    bytes = bytes + #value
    from = '(' .. entry[1]
end
return found
""".replace("HEAD", str(HEAD_BYTES)),
)
"""Return id, head and size of the oldest entries of a stream (1). Arguments: how many at most, and
the bytes from which no further one is read."""

LEASE = Script(
    _EVEN_IF_FULL,
    _CHECK_STREAM,
    _PARSE_LEASE,
    _NOW,
    """
local is_held = now < ending or (ending > 0 and ARGV[3] == '0')
if is_held and ARGV[1] ~= '' and holder ~= ARGV[1] then return {'HELD'} end
local taken = string.format('%.0f', math.max(now, fence + 1))
local ends = string.format('%.0f', now + 1000 * ARGV[2])
redis.call('SET', KEYS[1], taken .. ' ' .. ends .. ' ' .. ARGV[1])
return {'OK', taken, string.format('%.0f', fence)}
""",
)
"""Take the lease (1), unless another owner holds it; return the new fence and the one before.
Arguments: owner (empty: take it whoever holds it), milliseconds, and 0 to leave a lease that has
ended, but was not given back, to its holder.

The lease is a text: fence, end in microseconds, owner. It has no expiry, because Redis logs the
removal of a key in the same transaction as what the script writes. A fence is the time in
microseconds. So it is never given out twice, even if Redis has lost the last ones in a crash."""

RENEW = Script(
    _EVEN_IF_FULL,
    _CHECK_FENCE,
    _PARSE_LEASE,
    _NOW,
    """
if ending == 0 then return {'FENCED'} end
local ends = string.format('%.0f', now + 1000 * ARGV[3])
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ends .. ' ' .. ARGV[2])
return {'OK'}
""",
)
"""Renew the lease (1), unless it was given back. Arguments: fence, owner, milliseconds."""

RESTORE_FENCE = Script(
    _EVEN_IF_FULL,
    _CHECK_STREAM,
    _PARSE_LEASE,
    _NOW,
    """
if fence > tonumber(ARGV[4]) or (holder ~= ARGV[2] and now < ending) then return {'FENCED'} end
local ends = string.format('%.0f', now + 1000 * ARGV[3])
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ends .. ' ' .. ARGV[2])
return {'OK'}
""",
)
"""Make a fence valid again that Redis has lost in a crash, unless another owner has taken the lease
(1) since. Arguments: fence, owner, milliseconds, and the fence before."""

RELEASE = Script(
    _EVEN_IF_FULL,
    _CHECK_FENCE,
    """
redis.call('SET', KEYS[1], ARGV[1] .. ' 0 ')
return {'OK'}
""",
)
"""Let others take the lease (1) at once. Argument: fence."""

APPEND = Script(
    _LAST_ID,
    _CHECK_FENCE,
    """
local entry = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local last = entry and entry[1] or last_id()
if last ~= ARGV[2] then
    if not entry then return {'AT', last} end
    return {'AT', last, string.sub(entry[2][2], 1, HEAD), #entry[2][2]}
end
if ARGV[3] then
    redis.call('XADD', KEYS[2], ARGV[3], 'b', ARGV[4])
else
    redis.call('SET', KEYS[1], lease)
end
return {'OK'}
""".replace("HEAD", str(HEAD_BYTES)),
)
"""Append an entry to the stream (2) if its last one has a certain id; else return the id, the head
and the size of the last one. Arguments: fence, expected id; unless this is only a check, id and
value of the new entry.

A check stores the lease unchanged. This makes it a write, so Redis refuses it whenever it would
refuse an entry. Redis would answer a read even while its disk is full, or after it has become a
replica."""

TRIM = Script(
    _CHECK_FENCE,
    """
redis.call('XTRIM', KEYS[2], 'MINID', '=', ARGV[2])
return {'OK'}
""",
)
"""Remove the entries of the stream (2) below an id. Arguments: fence, id. Redis accepts it
even while its memory is full."""

BEGIN_SNAPSHOT = Script(
    _CHECK_FENCE,
    """
return {'OK', tostring(redis.call('INCR', KEYS[3]))}
""",
)
"""Begin a snapshot; return its number, from a counter (3). Argument: fence."""

ADD_CHUNK = Script(
    _CHECK_FENCE,
    _CHECK_NEWEST,
    """
local count, place = redis.call('LLEN', KEYS[4]), tonumber(ARGV[3])
if count < place then return {'LOST'} end
if count == place then redis.call('RPUSH', KEYS[4], ARGV[4]) end
return {'OK'}
""",
)
"""Add a chunk to those of the snapshot begun last (4), unless it is there, or Redis has lost one
before it. Arguments: fence, number of the snapshot, place, chunk."""

FINISH_SNAPSHOT = Script(
    _CHECK_FENCE,
    """
if redis.call('HEXISTS', KEYS[5], ARGV[2]) == 1 then return {'OK'} end
""",
    _CHECK_NEWEST,
    """
if redis.call('LLEN', KEYS[4]) ~= tonumber(ARGV[3]) then return {'LOST'} end
if ARGV[5] == '1' then return {'TRIMMED'} end
redis.call('HSET', KEYS[5], ARGV[2], ARGV[4])
return {'OK'}
""",
)
"""Add the snapshot begun last to the finished ones (5), unless it is there. Arguments: fence, its
number, number of its chunks (4), row, and whether what follows it was trimmed."""

FORGET_SNAPSHOTS = Script(
    _CHECK_FENCE,
    """
redis.call('HDEL', KEYS[3], unpack(ARGV, 2))
return {'OK'}
""",
)
"""Remove rows of finished snapshots (3). Arguments: fence, numbers."""

REMOVE_CHUNKS = Script(
    _CHECK_FENCE,
    """
redis.call('UNLINK', unpack(KEYS, 3))
return {'OK'}
""",
)
"""Remove the chunks of snapshots, which are the keys from the third one on. Argument: fence."""
