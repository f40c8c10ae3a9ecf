-- What every script of this folder begins with.
--
-- All keys of an organisation share its hash tag, so that they lie in one slot of a Redis Cluster:
--   KEYS[1] meta   hash: inc = life of the server that `pos` belongs to, pos = newest transaction settled in it,
--                  lim = newest announced version of the limits
--   KEYS[2] held   hash: <scope>|m, <scope>|t, <scope>|n = money, tokens and requests held by open reservations
--   KEYS[3] open   sorted set: id of each open reservation, by the millisecond in which it expires
--   KEYS[4] the record of the reservation at hand, a hash: st = state, d = digest of its body, m, t, exp, sc = its scopes,
--                  mo = model, pv = price version, x:<key> = digest of an extension
--   from KEYS[5] on, counters, hashes: inc = life of the server in which it was loaded, pos = newest transaction that is
--                  in what was loaded, m, t = money and tokens spent
-- Records of other reservations of the same organisation (those that expire meanwhile) are reached by ask.record_prefix.
--
-- Numbers stay below 2^53, where doubles are exact; `int` writes them without an exponent.

local ask = cjson.decode(ARGV[1])

local REAP_AT_ONCE = 256

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
-- another run id: what was counted before is not trusted, and is loaded from the ledger again.
local function incarnation()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

local function number(text)
  return tonumber(text or '0')
end

local function touch()
  redis.call('PEXPIRE', KEYS[1], ask.meta_keep_ms)
  redis.call('PEXPIRE', KEYS[2], ask.held_keep_ms)
  redis.call('PEXPIRE', KEYS[3], ask.held_keep_ms)
end

-- Ends an open reservation, and gives back what it held.
local function close(id, state)
  local record = ask.record_prefix .. id
  redis.call('ZREM', KEYS[3], id)
  local kept = redis.call('HMGET', record, 'm', 't', 'sc')
  if not kept[1] then
    return
  end
  for _, scope in ipairs(cjson.decode(kept[3])) do
    redis.call('HINCRBY', KEYS[2], scope .. '|m', int(0 - kept[1]))
    redis.call('HINCRBY', KEYS[2], scope .. '|t', int(0 - kept[2]))
    if redis.call('HINCRBY', KEYS[2], scope .. '|n', -1) <= 0 then
      redis.call('HDEL', KEYS[2], scope .. '|m', scope .. '|t', scope .. '|n')
    end
  end
  redis.call('HSET', record, 'st', state)
  redis.call('PEXPIRE', record, ask.closed_keep_ms)
end

-- Nobody watches the clock: whoever comes next ends what has expired.
local function reap(now)
  local expired = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, REAP_AT_ONCE)
  for _, id in ipairs(expired) do
    close(id, 'expired')
  end
  return #expired
end

-- The state of a reservation; false when nothing is known of it.
local function state_of(id, now)
  local kept = redis.call('HMGET', KEYS[4], 'st', 'exp')
  if kept[1] == 'open' and number(kept[2]) <= now then
    close(id, 'expired')
    return 'expired'
  end
  return kept[1]
end

-- What was spent, for each of ask.limits; or the numbers (from 1) of the counters that are not loaded.
local function spent_on_counters(life)
  local spent, missing = {}, {}
  for i = 5, #KEYS do
    local kept = redis.call('HMGET', KEYS[i], 'inc', 'm', 't')
    if kept[1] ~= life then
      missing[#missing + 1] = i - 4
    else
      spent[#spent + 1] = {m = tonumber(kept[2]), t = tonumber(kept[3])}
    end
  end
  return spent, missing
end

local function held_by(scope)
  local kept = redis.call('HMGET', KEYS[2], scope .. '|m', scope .. '|t', scope .. '|n')
  return {m = number(kept[1]), t = number(kept[2]), n = number(kept[3])}
end

-- The first limit without room for amount, tokens and places: its number, what it counts, and what is left of it.
local function refusal(spent, amount, tokens, places)
  for i, limit in ipairs(ask.limits) do
    local held = held_by(limit.scope)
    if limit.money and amount > limit.money - spent[i].m - held.m then
      return {i, 'money', int(limit.money - spent[i].m - held.m)}
    end
    if limit.tokens and tokens > limit.tokens - spent[i].t - held.t then
      return {i, 'tokens', int(limit.tokens - spent[i].t - held.t)}
    end
    if limit.concurrency and places > 0 and places > limit.concurrency - held.n then
      return {i, 'concurrency', int(limit.concurrency - held.n)}
    end
  end
end

-- What is left where least is left; '' when no limit is on money.
local function remaining(spent)
  local least
  for i, limit in ipairs(ask.limits) do
    if limit.money then
      local left = limit.money - spent[i].m - held_by(limit.scope).m
      if not least or left < least then
        least = left
      end
    end
  end
  return least and int(least) or ''
end

local function outdated()
  return number(redis.call('HGET', KEYS[1], 'lim')) > ask.limits_version
end

local function held_reply(reaped, spent)
  local kept = redis.call('HMGET', KEYS[4], 'm', 't', 'exp', 'mo', 'pv')
  return {'held', reaped, kept[1], kept[2], kept[3], kept[4], kept[5], remaining(spent)}
end

local function missing_reply(reaped, life, missing)
  local reply = {'missing', reaped, life}
  for _, i in ipairs(missing) do
    reply[#reply + 1] = i
  end
  return reply
end
