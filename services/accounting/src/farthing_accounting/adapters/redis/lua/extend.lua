-- Holds more for an open reservation, and renews its expiry. Refused, all stays as it was.
local now = moment()
local reaped = reap(now)

local state = state_of(ask.id, now)
if state ~= 'open' then
  return {'closed', reaped, state or 'unknown'}
end
-- Another principal's: for this caller there is none.
if redis.call('HGET', KEYS[5], 'sc') ~= cjson.encode(ask.scopes) then
  return {'closed', reaped, 'unknown'}
end
local done = redis.call('HGET', KEYS[5], 'x:' .. ask.key)
if done and done ~= ask.digest then
  return {'mismatch', reaped}
end
local obstacle = obstacle(now, reaped)
if obstacle then
  return obstacle
end
local life = incarnation()
local left, missing = left_of_limits(life)
if #missing > 0 then
  return missing_reply(reaped, life, missing)
end
if done then
  return held_reply(reaped, money_left(left, 0))
end

local extensions = number(redis.call('HGET', KEYS[5], 'xs'))
if extensions >= ask.max_extensions then
  return {'refused', reaped, 0, 'extensions', '0'}
end
local refused = refusal(left, ask.amount, ask.tokens, 0)
if refused then
  return {'refused', reaped, refused[1], refused[2], refused[3]}
end

local expires = now + ask.ttl_ms
hold(ask.scopes, ask.amount, ask.tokens, 0)
redis.call('HINCRBY', KEYS[5], 'm', int(ask.amount))
redis.call('HINCRBY', KEYS[5], 't', int(ask.tokens))
redis.call('HSET', KEYS[5], 'exp', int(expires), 'x:' .. ask.key, ask.digest, 'xs', int(extensions + 1))
redis.call('PEXPIRE', KEYS[5], int(ask.ttl_ms + 2 * ask.held_keep_ms))
redis.call('ZADD', KEYS[3], int(expires), ask.id)
touch()
return held_reply(reaped, money_left(left, ask.amount))
