-- Holds again what its maker held when Redis lost it, whatever the limits: it is in flight. What is known of stays as it is.
local now = moment()
local reaped = reap(now)
if state_of(ask.id, now) then
  return {'known', reaped}
end
hold(ask.scopes, ask.amount, ask.tokens, ask.places)
remember(ask.expires, now)
if ask.expires <= now then
  expire(ask.id)
end
touch()
return {'back', reaped}
