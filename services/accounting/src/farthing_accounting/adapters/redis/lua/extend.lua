-- Holds more for an open reservation, and renews its expiry. Refused, all stays as it was.
local now = moment()
local reaped = reap(now)
touch()

local state = state_of(ask.id, now)
if state ~= 'open' then
  return {'closed', reaped, state or 'unknown'}
end
local done = redis.call('HGET', KEYS[4], 'x:' .. ask.key)
if done and done ~= ask.digest then
  return {'mismatch', reaped}
end
if outdated() then
  return {'outdated', reaped}
end
local life = incarnation()
local spent, missing = spent_on_counters(life)
if #missing > 0 then
  return missing_reply(reaped, life, missing)
end
if done then
  return held_reply(reaped, spent)
end

local extensions = number(redis.call('HGET', KEYS[4], 'xs'))
if extensions >= ask.max_extensions then
  return {'refused', reaped, 0, 'extensions', '0'}
end
local refused = refusal(spent, ask.amount, ask.tokens, 0)
if refused then
  return {'refused', reaped, refused[1], refused[2], refused[3]}
end

local expires = now + ask.ttl_ms
for _, scope in ipairs(cjson.decode(redis.call('HGET', KEYS[4], 'sc'))) do
  redis.call('HINCRBY', KEYS[2], scope .. '|m', int(ask.amount))
  redis.call('HINCRBY', KEYS[2], scope .. '|t', int(ask.tokens))
end
redis.call('HINCRBY', KEYS[4], 'm', int(ask.amount))
redis.call('HINCRBY', KEYS[4], 't', int(ask.tokens))
redis.call('HSET', KEYS[4], 'exp', int(expires), 'x:' .. ask.key, ask.digest, 'xs', int(extensions + 1))
redis.call('PEXPIRE', KEYS[4], int(ask.ttl_ms + 2 * ask.held_keep_ms))
redis.call('ZADD', KEYS[3], int(expires), ask.id)
return held_reply(reaped, spent)
