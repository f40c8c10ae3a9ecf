-- Gives a reservation back. One that is not known leaves a mark, so that a Reserve which arrives late holds nothing.
local now = moment()
local reaped = reap(now)

local state = state_of(ask.id, now)
if state == 'settled' then
  return {'closed', reaped, state}
end
if state == 'open' then
  close(ask.id, 'released')
elseif not state then
  redis.call('HSET', KEYS[4], 'st', 'released')
  redis.call('PEXPIRE', KEYS[4], ask.closed_keep_ms)
end
touch()
return {'released', reaped}
