-- Holds an estimate in every scope, or nothing. The same id and body give the same reservation.
local now = moment()
local reaped = reap(now)

local state = state_of(ask.id, now)
if state and state ~= 'open' then
  return {'closed', reaped, state}
end
if state and redis.call('HGET', KEYS[5], 'd') ~= ask.digest then
  return {'mismatch', reaped}
end
if outdated() then
  return {'outdated', reaped}
end
local life = incarnation()
local left, missing = left_of_limits(life)
if #missing > 0 then
  return missing_reply(reaped, life, missing)
end
if state then
  return held_reply(reaped, money_left(left, 0))
end

local refused = refusal(left, ask.amount, ask.tokens, ask.places)
if refused then
  return {'refused', reaped, refused[1], refused[2], refused[3]}
end

local expires = now + ask.ttl_ms
hold(ask.scopes, ask.amount, ask.tokens, ask.places)
redis.call('HSET', KEYS[5], 'st', 'open', 'd', ask.digest, 'm', int(ask.amount), 't', int(ask.tokens), 'n', int(ask.places),
  'exp', int(expires), 'sc', cjson.encode(ask.scopes), 'mo', ask.model, 'pv', int(ask.price_version))
-- Longer than `held` is kept: as long as the sum is there, so is what has to be taken off it.
redis.call('PEXPIRE', KEYS[5], int(ask.ttl_ms + 2 * ask.held_keep_ms))
redis.call('ZADD', KEYS[3], int(expires), ask.id)
touch()
return held_reply(reaped, money_left(left, ask.amount))
