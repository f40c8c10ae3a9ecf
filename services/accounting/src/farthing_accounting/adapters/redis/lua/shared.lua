-- What every script of this folder begins with.
--
-- All keys of an organisation share its hash tag, so that they lie in one slot of a Redis Cluster:
--   KEYS[1] meta   hash: inc = lives of server and ledger that `pos` belongs to, pos = newest transaction settled in it,
--                  lim = newest announced version of the limits, opens = when limits may be compared with again
--   KEYS[2] held   hash: <scope>|m, <scope>|t = money and tokens held by reservations that are open or await their
--                  booking; <scope>|n = requests in flight: those of open ones
--   KEYS[3] open   sorted set: id of each open reservation, by the millisecond in which it expires
--   KEYS[4] awaiting   sorted set: id of each that expired, by that millisecond: it may have been used, and the usage is
--                  not booked yet
--   KEYS[5] the record of the reservation at hand, a hash: st = open or expired, d = digest of its body, m, t, n (not
--                  there: 1), exp, sc = its scopes, mo = model, pv = price version, x:<key> = digest of an extension
--   KEYS[6] the trace that it leaves when it is closed, a number (see ENDED): what comes late finds it
--   from KEYS[7] on, counters, hashes: inc = lives in which it was loaded, pos = newest transaction that is
--                  in what was loaded, m, t = money and tokens spent
-- Records of other reservations of the same organisation (those that expire meanwhile) are reached by ask.record_prefix,
-- their traces by ask.trace_prefix.
--
-- Numbers stay below 2^53, where doubles are exact; `int` writes them without an exponent.

local ask = cjson.decode(ARGV[1])

local REAP_AT_ONCE = 256
-- Keys before the counters.
local FIXED = 6
-- Small numbers cost Redis no memory of their own.
local RELEASED, SETTLED = '1', '2'
local ENDED = {[RELEASED] = 'released', [SETTLED] = 'settled'}

local function int(number)
  return string.format('%.0f', number)
end

-- The server's clock; tests bring their own.
local function moment()
  if ask.now then
    return tonumber(ask.now)
  end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A server that restarts (perhaps from an append-only file that misses its last second) or a replica that takes over has
-- another run id; a ledger that was restored, or restarted, another life. What was counted before is not trusted then, and
-- is loaded from the ledger again.
local function incarnation()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') .. ask.ledger
end

local function number(text)
  return tonumber(text or '0')
end

local function touch()
  redis.call('PEXPIRE', KEYS[1], ask.meta_keep_ms)
  redis.call('PEXPIRE', KEYS[2], ask.held_keep_ms)
  redis.call('PEXPIRE', KEYS[3], ask.held_keep_ms)
  redis.call('PEXPIRE', KEYS[4], ask.held_keep_ms)
end

-- Takes money, tokens and places off what scopes hold.
local function take_off(scopes, money, tokens, places)
  for _, scope in ipairs(cjson.decode(scopes)) do
    local m = redis.call('HINCRBY', KEYS[2], scope .. '|m', int(0 - money))
    local t = redis.call('HINCRBY', KEYS[2], scope .. '|t', int(0 - tokens))
    local n = redis.call('HINCRBY', KEYS[2], scope .. '|n', int(0 - places))
    if m <= 0 and t <= 0 and n <= 0 then
      redis.call('HDEL', KEYS[2], scope .. '|m', scope .. '|t', scope .. '|n')
    end
  end
end

-- Its time is up, so that its place is free; its money and tokens go on counting, since what was used may not be booked
-- yet. Of the record stays what has to be taken off in the end.
local function expire(id)
  local record = ask.record_prefix .. id
  local kept = redis.call('HMGET', record, 'sc', 'n', 'exp')
  redis.call('ZREM', KEYS[3], id)
  if kept[1] then
    redis.call('ZADD', KEYS[4], kept[3], id)
    take_off(kept[1], 0, 0, kept[2] or '1')
    redis.call('HSET', record, 'st', 'expired')
    redis.call('HDEL', record, 'd', 'n', 'exp', 'mo', 'pv', 'xs')
  end
end

-- Ends a reservation and gives back what it still held. With `trace`, what comes late finds out how.
local function close(id, trace)
  local record = ask.record_prefix .. id
  local open, awaiting = redis.call('ZREM', KEYS[3], id), redis.call('ZREM', KEYS[4], id)
  if open + awaiting > 0 then
    local kept = redis.call('HMGET', record, 'sc', 'm', 't', 'n')
    if kept[1] then
      take_off(kept[1], kept[2], kept[3], open > 0 and (kept[4] or '1') or '0')
    end
  end
  redis.call('DEL', record)
  if trace then
    redis.call('SET', ask.trace_prefix .. id, trace, 'PX', ask.closed_keep_ms)
  end
end

-- Nobody watches the clock: whoever comes next expires what is due, and drops what has awaited a booking until ask.lapse,
-- when all usage of that time is known to be booked.
local function reap(now)
  local expired = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, REAP_AT_ONCE)
  for _, id in ipairs(expired) do
    expire(id)
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', ask.lapse, 'LIMIT', 0, REAP_AT_ONCE)) do
    close(id)
  end
  return #expired
end

-- The state of the reservation at hand; false when nothing is known of it.
local function state_of(id, now)
  local kept = redis.call('HMGET', KEYS[5], 'st', 'exp')
  if kept[1] == 'open' and number(kept[2]) <= now then
    expire(id)
    return 'expired'
  end
  return kept[1] or ENDED[redis.call('GET', KEYS[6])] or false
end

-- Why a limit cannot be compared with now: the caller's are old, or what was in flight when Redis lost it is being brought
-- back (see install.lua).
local function obstacle(now, reaped)
  local meta = redis.call('HMGET', KEYS[1], 'lim', 'opens')
  if number(meta[1]) > ask.limits_version then
    return {'outdated', reaped}
  end
  if #ask.limits > 0 and number(meta[2]) > now then
    return {'recovering', reaped, int(number(meta[2]) - now)}
  end
end

-- What is left of each of ask.limits: {m = money, t = tokens, n = places}; or, instead, the numbers (from 1) of the counters
-- that are not loaded.
local function left_of_limits(life)
  local fields, spent, missing = {}, {}, {}
  for i, limit in ipairs(ask.limits) do
    local kept = redis.call('HMGET', KEYS[FIXED + i], 'inc', 'm', 't')
    if kept[1] ~= life then
      missing[#missing + 1] = i
    end
    spent[i] = kept
    fields[3 * i - 2], fields[3 * i - 1], fields[3 * i] = limit.scope .. '|m', limit.scope .. '|t', limit.scope .. '|n'
  end
  if #missing > 0 or #fields == 0 then
    return {}, missing
  end
  local held, left = redis.call('HMGET', KEYS[2], unpack(fields)), {}
  for i, limit in ipairs(ask.limits) do
    left[i] = {
      m = limit.money and limit.money - number(spent[i][2]) - number(held[3 * i - 2]),
      t = limit.tokens and limit.tokens - number(spent[i][3]) - number(held[3 * i - 1]),
      n = limit.concurrency and limit.concurrency - number(held[3 * i])
    }
  end
  return left, missing
end

-- The first limit without room for amount, tokens and places: its number, what it counts, and what is left of it. Who wants
-- no tokens or no places is not refused for them, whatever is left.
local function refusal(left, amount, tokens, places)
  for i, room in ipairs(left) do
    if room.m and amount > room.m then
      return {i, 'money', int(room.m)}
    end
    if room.t and tokens > 0 and tokens > room.t then
      return {i, 'tokens', int(room.t)}
    end
    if room.n and places > 0 and places > room.n then
      return {i, 'concurrency', int(room.n)}
    end
  end
end

-- The money that is left of each limit once `amount` is held; '' where a limit is not on money.
local function money_left(left, amount)
  local found = {}
  for i, room in ipairs(left) do
    found[i] = room.m and int(room.m - amount) or ''
  end
  return found
end

-- Adds to what the scopes of a reservation hold.
local function hold(scopes, amount, tokens, places)
  for _, scope in ipairs(scopes) do
    redis.call('HINCRBY', KEYS[2], scope .. '|m', int(amount))
    redis.call('HINCRBY', KEYS[2], scope .. '|t', int(tokens))
    if places > 0 then
      redis.call('HINCRBY', KEYS[2], scope .. '|n', places)
    end
  end
end

-- Writes down the reservation at hand, which is open until `expires`.
local function remember(expires, now)
  redis.call('HSET', KEYS[5], 'st', 'open', 'd', ask.digest, 'm', int(ask.amount), 't', int(ask.tokens),
    'n', int(ask.places), 'exp', int(expires), 'sc', cjson.encode(ask.scopes), 'mo', ask.model,
    'pv', int(ask.price_version))
  -- Longer than `held` is kept: as long as the sum is there, so is what has to be taken off it.
  redis.call('PEXPIRE', KEYS[5], int(expires - now + 2 * ask.held_keep_ms))
  redis.call('ZADD', KEYS[3], int(expires), ask.id)
end

local function held_reply(reaped, left)
  local kept = redis.call('HMGET', KEYS[5], 'm', 't', 'exp', 'mo', 'pv')
  return {'held', reaped, kept[1], kept[2], kept[3], kept[4], kept[5], unpack(left)}
end

local function missing_reply(reaped, life, missing)
  local reply = {'missing', reaped, life}
  for _, i in ipairs(missing) do
    reply[#reply + 1] = i
  end
  return reply
end
