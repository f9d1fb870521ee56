"""The Lua scripts of a Redis journal. Redis runs each in one go, so nothing comes in between.

Numbers of the journal go up to 2**63, but a Lua number is exact only up to 2**53. So they are
decimal strings throughout: Redis adds to them itself (HINCRBY), and ``less`` compares them.

A script that Redis does not finish (it runs out of memory, or is killed) is not undone. So each
changes the state last: then what it has done before is found again, or has no effect.

All but the first begin with the keys of the state and have the writer's fence as first argument.
The answer is a list; its first element says what it is.
"""

from hashlib import sha1

_FUNCTIONS = """
local function less(a, b) return #a < #b or (#a == #b and a < b) end
local function before(e, n, f, m) return less(e, f) or (e == f and less(n, m)) end
"""

_CHECK_FENCE = """
local fence = redis.call('HGET', KEYS[1], 'fence')
if not fence then return {'GONE'} end
if fence ~= ARGV[1] then return {'FENCED'} end
"""

_CHECK_UNFINISHED = """
if redis.call('HGET', KEYS[1], 'unfinished') ~= ARGV[2] then return {'REPLACED'} end
"""


class Script:
    """A script and the name by which Redis knows it."""

    def __init__(self, *parts: str) -> None:
        self.text = "".join(parts)
        self.sha = sha1(self.text.encode(), usedforsecurity=False).hexdigest()


CREATE = Script("""
if redis.call('EXISTS', KEYS[1]) == 0 then
    if redis.call('EXISTS', KEYS[2]) == 1 then return {'HEADLESS'} end
    redis.call('HSET', KEYS[1], 'format', ARGV[1], 'fence', '0', 'needs_snapshot', '0',
        'from_epoch', ARGV[2], 'from_next', ARGV[3], 'epoch', ARGV[2], 'next', ARGV[3],
        'bytes', '0', 'trimmed', '0')
end
return {'OK', redis.call('HGET', KEYS[1], 'format')}
""")
"""Create the state (1) of a journal without a stream (2), unless there is one; return its format.
Arguments: format, epoch and number at which it begins."""

LEASE = Script(
    _FUNCTIONS,
    """
local fence = redis.call('HGET', KEYS[1], 'fence')
if not fence then return {'GONE'} end
if ARGV[1] ~= '' then
    local holder = redis.call('GET', KEYS[2])
    if holder and holder ~= ARGV[1] then return {'HELD'} end
end
local time = redis.call('TIME')
local now = time[1] .. string.rep('0', 6 - #time[2]) .. time[2]
if less(fence, now) then
    redis.call('HSET', KEYS[1], 'fence', now)
else
    redis.call('HINCRBY', KEYS[1], 'fence', 1)
end
if ARGV[1] ~= '' then
    redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
else
    redis.call('DEL', KEYS[2])
end
return {'OK', redis.call('HGET', KEYS[1], 'fence')}
""",
)
"""Take the lease (2), unless another owner holds it; return the new fence. Arguments: owner (empty:
take it whoever holds it) and milliseconds.

A fence is the time in microseconds. So it is never given out twice, even if Redis has lost the last
ones in a crash."""

RENEW = Script(
    _CHECK_FENCE,
    """
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[2] then return {'FENCED'} end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return {'OK'}
""",
)
"""Hold the lease (2) for longer. Arguments: fence, owner, milliseconds."""

RESTORE_FENCE = Script(
    _FUNCTIONS,
    """
local fence = redis.call('HGET', KEYS[1], 'fence')
if not fence then return {'GONE'} end
local holder = redis.call('GET', KEYS[2])
if not less(fence, ARGV[1]) or (holder and holder ~= ARGV[2]) then return {'FENCED'} end
redis.call('HSET', KEYS[1], 'fence', ARGV[1])
return {'OK'}
""",
)
"""Make a fence valid again that Redis has lost in a crash, unless another owner has taken the lease
(2) since. Arguments: fence, owner."""

RELEASE = Script(
    _CHECK_FENCE,
    """
if redis.call('GET', KEYS[2]) == ARGV[2] then redis.call('DEL', KEYS[2]) end
return {'OK'}
""",
)
"""Let others take the lease (2) at once. Arguments: fence, owner."""

APPEND = Script(
    _FUNCTIONS,
    _CHECK_FENCE,
    """
local position = redis.call('HMGET', KEYS[1], 'epoch', 'next')
local epoch, number = position[1], position[2]
local missing = {}
for i = 5, #ARGV, 4 do
    local e, first, last = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    if before(epoch, number, e, last) then
        if less(epoch, e) then
            if first ~= last then return {'EPOCH', e} end
        elseif first ~= number then
            return {'GAP', position[1], position[2]}
        end
        epoch, number = e, last
        missing[#missing + 1] = i
    end
end
if #missing > 0 then
    local bytes = 0
    for _, i in ipairs(missing) do
        redis.call('XADD', KEYS[2], ARGV[i] .. '-' .. ARGV[i + 2], 'b', ARGV[i + 3])
        bytes = bytes + #ARGV[i + 3] + ARGV[4]
    end
    redis.call('HINCRBY', KEYS[1], 'bytes', bytes)
    if ARGV[3] == '1' then
        local total = redis.call('HGET', KEYS[1], 'bytes')
        redis.call('RPUSH', KEYS[3], table.concat({epoch, number, ARGV[2], total}, ' '))
    end
    redis.call('HSET', KEYS[1], 'epoch', epoch, 'next', number)
end
return {'OK', epoch, number}
""",
)
"""Append to the stream (2) the batches that it lacks, all or none; return the position. Arguments:
fence, Unix time, whether to add a mark (3), bytes counted for each batch besides its entry; then
for each batch its epoch, first number, end and entry.

A mark has a position, the time, and how many bytes were appended up to there. Retention removes
whole sections between marks, so it does not have to read the entries."""

TRIM = Script(
    _FUNCTIONS,
    _CHECK_FENCE,
    """
local last = redis.call('XREVRANGE', KEYS[2], ARGV[2] .. '-' .. ARGV[3], '-', 'COUNT', 1)[1]
if not last then return {'OK'} end
local epoch, number = string.match(last[1], '(%d+)-(%d+)')
redis.call('XTRIM', KEYS[2], 'MINID', '=', ARGV[2] .. '-' .. ARGV[4])
redis.call('HSET', KEYS[1], 'from_epoch', epoch, 'from_next', number, 'needs_snapshot', '1')
while true do
    local mark = redis.call('LINDEX', KEYS[3], 0)
    if not mark then break end
    local e, n, bytes = string.match(mark, '(%d+) (%d+) %d+ (%d+)')
    if before(epoch, number, e, n) then break end
    redis.call('LPOP', KEYS[3])
    redis.call('HSET', KEYS[1], 'trimmed', bytes)
end
return {'OK'}
""",
)
"""Remove the batches of the stream (2) that end at or below a position, and the marks (3) up to
there. Arguments: fence, epoch, number, number + 1.

XTRIM comes first: while the memory is full, Redis refuses HSET, but not in a script that has
changed something already."""

BEGIN_SNAPSHOT = Script(
    _CHECK_FENCE,
    """
local unfinished = redis.call('HGET', KEYS[1], 'unfinished')
if unfinished then redis.call('UNLINK', ARGV[2] .. unfinished) end
local number = tostring(redis.call('HINCRBY', KEYS[1], 'begun', 1))
redis.call('HSET', KEYS[1], 'unfinished', number)
return {'OK', number}
""",
)
"""Begin a snapshot and remove an unfinished one; return its number. Arguments: fence, prefix of the
keys of chunks."""

ADD_CHUNK = Script(
    _CHECK_FENCE,
    _CHECK_UNFINISHED,
    """
local count, place = redis.call('LLEN', KEYS[2]), tonumber(ARGV[3])
if count < place then return {'LOST'} end
if count == place then redis.call('RPUSH', KEYS[2], ARGV[4]) end
return {'OK'}
""",
)
"""Add a chunk to an unfinished snapshot's (2), unless it is there, or Redis has lost one before it.
Arguments: fence, number of the snapshot, place, chunk."""

FINISH_SNAPSHOT = Script(
    _FUNCTIONS,
    _CHECK_FENCE,
    """
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then return {'OK'} end
""",
    _CHECK_UNFINISHED,
    """
if redis.call('LLEN', ARGV[7] .. ARGV[2]) ~= tonumber(ARGV[6]) then return {'LOST'} end
local from = redis.call('HMGET', KEYS[1], 'from_epoch', 'from_next')
if before(ARGV[3], ARGV[4], from[1], from[2]) then return {'TRIMMED'} end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[5])
for i = 8, #ARGV do
    redis.call('HDEL', KEYS[2], ARGV[i])
    redis.call('UNLINK', ARGV[7] .. ARGV[i])
end
if ARGV[3] == from[1] and ARGV[4] == from[2] then
    redis.call('HSET', KEYS[1], 'needs_snapshot', '1')
end
redis.call('HDEL', KEYS[1], 'unfinished')
return {'OK'}
""",
)
"""Add a snapshot to the finished ones (2), unless it is there. Arguments: fence, its number, epoch,
next number, row and number of chunks; prefix of the keys of chunks; numbers of the snapshots to be
removed."""
