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
local obstacle = obstacle(now, reaped)
if obstacle then
  return obstacle
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
remember(expires, now)
touch()
return held_reply(reaped, money_left(left, ask.amount))
