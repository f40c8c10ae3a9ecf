"""The atomic steps of the cache in Redis, in Lua.

`state` is a hash: `e` the epoch, `s` the mark (how many invalidations this epoch has seen, from 1), `x:<label>` the
mark of a label's last invalidation. An entry is a hash: `a` answer, `k` its labels, `s` the mark of its look-up, `t`
tier, `b` when it was written (ms of Redis's clock), `d` how long making it took (ms), `c` its cost, `w` value of one
hit per byte, `h` hits, and for requests that mean the same `v` vector, `p` profile and `r` when its last row in the
log ends (ms). A flight is a hash: `o` who leads, `u` until when (ms), `x` its stage, `n` the attempt, `a` provenance,
`m` reason; its text is a string beside it. A flight's name ends with the mark at which it began: an invalidation,
whatever it is about, parts who asks after it from what was begun before. Every time is Redis's own."""

from __future__ import annotations

from typing import Final

# Entries are named by the epoch, which only the script knows: their names cannot be declared in KEYS. They share the
# hash tag of KEYS[1], hence its slot.

NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# The epoch begins at Redis's own time in milliseconds. So a partition whose epoch was lost (evicted, or Redis came back
# empty) gets a number that was never used before, and an entry of an older epoch can never come alive again.
STATE: Final = (
    NOW
    + """
local state = redis.call('HMGET', KEYS[1], 'e', 's')
local epoch, mark = state[1], state[2]
if not epoch then
  epoch, mark = string.format('%.0f', now), '1'
  redis.call('HSET', KEYS[1], 'e', epoch, 's', mark)
end
"""
)

# Whether any of an entry's labels was invalidated after its look-up.
FORGOTTEN: Final = """
local function forgotten(labels, since)
  for label in string.gmatch(labels or '', '%S+') do
    local moment = redis.call('HGET', KEYS[1], label)
    if moment and tonumber(moment) > since then return true end
  end
  return false
end
"""

# A value of another type under an entry's name is as good as none.
READ: Final = """
local function read(name, ...)
  local value = redis.pcall('HMGET', name, ...)
  if value.err then redis.call('UNLINK', name) return {} end
  return value
end
"""

CLAIM: Final = """
local function made(name, token, lease_ms, most)
  local flight = name .. ':f:' .. mark
  local f = redis.call('HMGET', flight, 'o', 'u', 'x', 'n')
  local alive = f[1] and tonumber(f[2]) > now
  if alive and f[3] ~= 'lost' then return 'follow' end
  local attempt, lost = 1, f[3] == 'open' or f[3] == 'lost'
  if lost then
    attempt = tonumber(f[4]) + 1
    if attempt > most then attempt, lost = 1, false end
  end
  redis.call('HSET', flight, 'o', token, 'u', now + lease_ms, 'x', 'open', 'n', attempt, 'a', '', 'm', '')
  redis.call('PEXPIRE', flight, 60000)
  redis.call('SET', flight .. ':t', '', 'PX', 60000)
  return lost and 'takeover' or 'lead'
end
local function claim(name)
  -- Given back before it came: whoever asked has left.
  if redis.call('EXISTS', ARGV[10]) == 1 then return '' end
  local done, outcome = pcall(made, name, ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9]))
  return done and outcome or ''
end
"""

# Epoch, entry and claim in one round trip.
# ARGV: prefix, suffix, youngest that is too old (ms, 0: none is), least tier, early refresh per second of making (or
# -1), hits from which an entry is hot, token ('' claims nothing), lease ms, most leaders, where it is noted that this
# claim was given back
FIND: Final = (
    STATE
    + FORGOTTEN
    + READ
    + CLAIM
    + """
local name = ARGV[1] .. ':' .. epoch .. ':' .. ARGV[2]
local max_age, min_tier, lead, hot = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local e = read(name, 'a', 'k', 's', 't', 'b', 'd', 'c', 'w', 'h')
if e[1] then
  local age = math.max(0, now - tonumber(e[5]))
  if forgotten(e[2], tonumber(e[3])) then
    redis.call('UNLINK', name)
  elseif tonumber(e[4]) >= min_tier and (max_age == 0 or age < max_age) then
    local left = redis.call('PTTL', name)
    -- A Redis that is full or read-only refuses to count, and answers all the same.
    local hits, claimed = redis.pcall('HINCRBY', name, 'h', 1), ''
    if type(hits) ~= 'number' then hits = tonumber(e[9]) end
    redis.pcall('ZINCRBY', ARGV[1] .. ':' .. epoch .. ':worth', e[8], ARGV[2])
    if ARGV[7] ~= '' and lead >= 0 and hot > 0 and hits >= hot and left <= tonumber(e[6]) * lead then
      claimed = claim(name)
    end
    return {epoch, mark, claimed, e[1], left, age, hits, e[6], e[7]}
  end
end
if ARGV[7] == '' then return {epoch, mark, ''} end
return {epoch, mark, claim(name)}
"""
)

# KEYS: state, entry, worth. ARGV: epoch, mark, answer, tier, labels, life ms, age ms, took ms, cost, worth per byte,
# suffix, full (1: make room), bytes, longest life ms, then, for a meaning: log (or '' for none), vector as int8, vector
# as float16, profile, prompt. Returns a Verdict and the number of entries that made room.
KEEP: Final = (
    NOW
    + FORGOTTEN
    + READ
    + """
if redis.call('HGET', KEYS[1], 'e') ~= ARGV[1] then return {1, 0} end
local mark = tonumber(ARGV[2])
if mark == 0 then mark = tonumber(redis.call('HGET', KEYS[1], 's')) end
if forgotten(ARGV[5], mark) then return {1, 0} end
local old = read(KEYS[2], 't', 'k', 's', 'h', 'r', 'v')
local alive = old[1] and not forgotten(old[2], tonumber(old[3]))
if alive and tonumber(old[1]) > tonumber(ARGV[4]) then return {5, 0} end
local evicted, needed, worth = 0, tonumber(ARGV[13]), tonumber(ARGV[10])
if ARGV[12] == '1' and not old[1] then
  local prefix = string.sub(KEYS[3], 1, -6)
  for _ = 1, 64 do
    if needed <= 0 then break end
    local least = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
    if not least[1] or tonumber(least[2]) >= worth then break end
    local victim = prefix .. least[1]
    local size = redis.pcall('HGET', victim, 'z')
    redis.call('ZREM', KEYS[3], least[1])
    if type(size) == 'string' then
      redis.call('UNLINK', victim)
      needed = needed - tonumber(size)
      evicted = evicted + 1
    end
  end
  if needed > 0 then return {2, evicted} end
end
local life, longest = tonumber(ARGV[6]), tonumber(ARGV[14])
local hits = old[4] or '0'
-- The first write is one that a Redis without memory refuses: nothing is written by halves.
redis.call('HSET', KEYS[2], 'a', ARGV[3], 't', ARGV[4], 'k', ARGV[5], 's', mark, 'b', now - tonumber(ARGV[7]), 'd',
ARGV[8], 'c', ARGV[9], 'w', ARGV[10], 'z', ARGV[13], 'h', hits)
redis.call('ZADD', KEYS[3], worth * (1 + tonumber(hits)), ARGV[11])
redis.call('PEXPIRE', KEYS[3], longest)
if ARGV[15] then
  redis.call('HSET', KEYS[2], 'v', ARGV[17], 'p', ARGV[18])
  -- An entry that is kept again and again adds few rows: the one that is there stands for it if it ends little earlier.
  local same = alive and old[5] and old[1] == ARGV[4] and old[6] == ARGV[17]
  if ARGV[15] ~= '' and not (same and now + life - tonumber(old[5]) < life / 10) then
    redis.call('HSET', KEYS[2], 'r', string.format('%.0f', now + life))
    redis.call('XADD', ARGV[15], 'MINID', '~', string.format('%.0f', now - longest), '*', 'i', ARGV[19], 'v', ARGV[16],
      'x', string.format('%.0f', now + life), 'w', ARGV[10], 't', ARGV[4])
    redis.call('PEXPIRE', ARGV[15], longest)
  end
else
  redis.call('HDEL', KEYS[2], 'v', 'p', 'r')
end
redis.call('PEXPIRE', KEYS[2], life)
return {0, evicted}
"""
)

# KEYS: state, done. ARGV: how long to remember ms, most labels, what is asked for, labels…; no label forgets
# everything. Returns nothing where the key was used to ask for something else.
FORGET: Final = (
    STATE
    + """
local done = redis.call('GET', KEYS[2])
if done then
  local asked, then_epoch = string.match(done, '^(%S+) (%d+)$')
  return asked == ARGV[3] and then_epoch or false
end
if #ARGV == 3 or redis.call('HLEN', KEYS[1]) + #ARGV - 3 > tonumber(ARGV[2]) then
  redis.call('DEL', KEYS[1])
  epoch = string.format('%.0f', math.max(tonumber(epoch) + 1, now))
  redis.call('HSET', KEYS[1], 'e', epoch, 's', '1')
else
  mark = redis.call('HINCRBY', KEYS[1], 's', 1)
  for i = 4, #ARGV do redis.call('HSET', KEYS[1], ARGV[i], mark) end
end
redis.call('SET', KEYS[2], ARGV[3] .. ' ' .. epoch, 'PX', ARGV[1])
return epoch
"""
)

# KEYS: state. ARGV: prefix, log's suffix, after which id, how many. Returns epoch, now, and where there is a log its
# last id, and of its news the last id and all rows in one string, so that its reader makes no object for each field. A
# row that is not as KEEP writes it is left out.
NEWS: Final = (
    STATE
    + """
local name = ARGV[1] .. ':' .. epoch .. ':' .. ARGV[2]
local last = redis.call('XREVRANGE', name, '+', '-', 'COUNT', 1)
if not last[1] then return {epoch, now} end
if last[1][1] == ARGV[3] or ARGV[4] == '0' then return {epoch, now, last[1][1], '', ''} end
local news, packed, size = redis.call('XRANGE', name, '(' .. ARGV[3], '+', 'COUNT', ARGV[4]), {''}, nil
for _, one in ipairs(news) do
  local row = {}
  for i = 1, #one[2], 2 do row[one[2][i]] = one[2][i + 1] end
  local ends, worth, tier = tonumber(row.x), tonumber(row.w), tonumber(row.t)
  local id, vector = row.i or '', row.v or ''
  if ends and worth and tier and #id == 16 and #vector > 0 and #vector == (size or #vector) then
    size = #vector
    packed[#packed + 1] = id .. struct.pack('<dfb', ends, worth, tier) .. vector
  end
end
if not size then packed = {} else packed[1] = struct.pack('<I4', size) end
return {epoch, now, last[1][1], #news > 0 and news[#news][1] or '', table.concat(packed)}
"""
)

# KEYS: state. ARGV: prefix, compatibility, epoch, prompts…. Returns for each the vector, profile, tier, age, life
# left, or false.
CANDIDATES: Final = (
    STATE
    + FORGOTTEN
    + READ
    + """
local found = {}
for i = 4, #ARGV do
  local name = ARGV[1] .. ':' .. ARGV[3] .. ':' .. ARGV[2] .. ':' .. ARGV[i]
  local e = read(name, 'v', 'p', 't', 'b', 'k', 's')
  if epoch == ARGV[3] and e[1] and not forgotten(e[5], tonumber(e[6])) then
    found[#found + 1] = {e[1], e[2], tonumber(e[3]), math.max(0, now - tonumber(e[4])), redis.call('PTTL', name)}
  else
    found[#found + 1] = false
  end
end
return found
"""
)

# KEYS: state. ARGV: prefix, vector set's suffix, compatibility, its life from now ms (0: as it was), how many elements
# to look at, prompts…. Drops those elements, and any looked at, whose entries cannot be found by meaning any more.
TIDY: Final = (
    STATE
    + FORGOTTEN
    + READ
    + """
local prefix = ARGV[1] .. ':' .. epoch .. ':'
local set = prefix .. ARGV[2]
if ARGV[4] ~= '0' then redis.call('PEXPIRE', set, ARGV[4]) end
local seen = {unpack(ARGV, 6)}
if ARGV[5] ~= '0' then
  for _, prompt in ipairs(redis.call('VRANDMEMBER', set, ARGV[5]) or {}) do seen[#seen + 1] = prompt end
end
for _, prompt in ipairs(seen) do
  local e = read(prefix .. ARGV[3] .. ':' .. prompt, 'p', 'k', 's')
  if not e[1] or forgotten(e[2], tonumber(e[3])) then redis.call('VREM', set, prompt) end
end
return #seen
"""
)

# KEYS: flight, text. ARGV: token, offset, text, lease ms, most bytes, [grace ms, provenance].
PUBLISH: Final = (
    NOW
    + """
local f = redis.call('HMGET', KEYS[1], 'o', 'x')
if f[1] ~= ARGV[1] or f[2] ~= 'open' then return 0 end
local length, offset = redis.call('STRLEN', KEYS[2]), tonumber(ARGV[2])
if offset < 0 then
  redis.call('SET', KEYS[2], '')
  length, offset = 0, 0
end
if offset > length then return -1 end
local text = string.sub(ARGV[3], length - offset + 1)
if length + #text > tonumber(ARGV[5]) then
  redis.call('HSET', KEYS[1], 'x', 'gone')
  return 0
end
if #text > 0 then redis.call('APPEND', KEYS[2], text) end
if ARGV[7] then
  redis.call('HSET', KEYS[1], 'x', 'done', 'a', ARGV[7], 'u', now + tonumber(ARGV[6]))
else
  redis.call('HSET', KEYS[1], 'u', now + tonumber(ARGV[4]))
end
redis.call('PEXPIRE', KEYS[1], 60000)
redis.call('PEXPIRE', KEYS[2], 60000)
return 1
"""
)

# KEYS: flight. ARGV: token, reason, grace ms.
RELEASE: Final = (
    NOW
    + """
local f = redis.call('HMGET', KEYS[1], 'o', 'x')
if f[1] ~= ARGV[1] or f[2] ~= 'open' then return 0 end
if ARGV[2] == '' then
  redis.call('HSET', KEYS[1], 'x', 'lost', 'u', 0)
else
  redis.call('HSET', KEYS[1], 'x', 'failed', 'm', ARGV[2], 'u', now + tonumber(ARGV[3]))
end
return 1
"""
)

# KEYS: state, note. ARGV: prefix, suffix, token, how long to remember ms. For a claim whose outcome nobody heard,
# whether it was made, or will be, or never came.
UNCLAIM: Final = (
    STATE
    + """
redis.call('SET', KEYS[2], '', 'PX', ARGV[4])
local flight = ARGV[1] .. ':' .. epoch .. ':' .. ARGV[2] .. ':f:' .. mark
local f = redis.call('HMGET', flight, 'o', 'x')
if f[1] ~= ARGV[3] or f[2] ~= 'open' then return 0 end
redis.call('HSET', flight, 'x', 'lost', 'u', 0)
return 1
"""
)

# KEYS: flight, text. ARGV: attempt, offset, token, lease ms, most leaders. Who finds the leader lost takes over.
PROGRESS: Final = (
    NOW
    + """
local f = redis.call('HMGET', KEYS[1], 'x', 'n', 'u', 'a', 'm')
if not f[1] then return {'gone', 0} end
local attempt = tonumber(f[2])
if f[1] == 'lost' or (f[1] == 'open' and tonumber(f[3]) <= now) then
  if attempt >= tonumber(ARGV[5]) then return {'gone', attempt} end
  attempt = attempt + 1
  redis.call('HSET', KEYS[1], 'o', ARGV[3], 'u', now + tonumber(ARGV[4]), 'x', 'open', 'n', attempt)
  redis.call('PEXPIRE', KEYS[1], 60000)
  redis.call('SET', KEYS[2], '', 'PX', 60000)
  return {'lead', attempt}
end
local offset = attempt == tonumber(ARGV[1]) and tonumber(ARGV[2]) or 0
local text = ''
if redis.call('STRLEN', KEYS[2]) > offset then text = redis.call('GETRANGE', KEYS[2], offset, -1) end
return {f[1], attempt, text, f[4] or '', f[5] or ''}
"""
)

# KEYS: evidence. ARGV: the version it must have, the new value, life ms. Returns the version now, or -1.
REPLACE: Final = """
local version = redis.call('HGET', KEYS[1], 'n') or '0'
if version ~= ARGV[1] then return -1 end
redis.call('HSET', KEYS[1], 'v', ARGV[2])
local now = redis.call('HINCRBY', KEYS[1], 'n', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return now
"""

# KEYS: log. ARGV: records, how many were dropped, most bytes, life ms. Each entry says how many bytes were ever added
# up to it, so that what is kept is a difference. The oldest go.
APPEND: Final = """
local function added(entry)
  for i = 1, #entry[2], 2 do if entry[2][i] == 'c' then return tonumber(entry[2][i + 1]) end end
  return 0
end
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
-- What an entry takes beside its records: measured, and rounded up.
local total = (last[1] and added(last[1]) or 0) + #ARGV[1] + 64
redis.call('XADD', KEYS[1], '*', 'r', ARGV[1], 'd', ARGV[2], 'c', string.format('%.0f', total))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
while true do
  local kept, old = false, {}
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 100)) do
    -- An entry stays if all after it leave it room.
    kept = total - added(entry) + 64 <= tonumber(ARGV[3])
    if kept then break end
    old[#old + 1] = entry[1]
  end
  if #old > 0 then redis.call('XDEL', KEYS[1], unpack(old)) end
  if kept or #old == 0 then return #old end
end
"""
