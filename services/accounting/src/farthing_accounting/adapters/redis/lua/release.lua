-- Gives a reservation back, also one that expired and awaits a booking: who made it says that there will be none. One
-- that is not known leaves a trace, so that a Reserve which arrives late holds nothing.
local now = moment()
local reaped = reap(now)

local state = state_of(ask.id, now)
if state == 'settled' then
  return {'closed', reaped, state}
end
if state ~= 'released' then
  close(ask.id, RELEASED)
end
touch()
return {'released', reaped}
