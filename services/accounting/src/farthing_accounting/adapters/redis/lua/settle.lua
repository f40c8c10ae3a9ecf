-- Adds what a booked transaction spent to every counter that is loaded, and closes its reservation: once.
--
-- A counter that is not loaded needs nothing: whoever loads it finds the transaction in the ledger. `pos` in meta makes that
-- true also for one who read the ledger before the transaction was committed (see install.lua). A counter that was loaded
-- after the commit has the transaction already: its position tells.
--
-- The mark keeps the same call from being done twice; a transaction that is settled again later is recounted. It names the
-- life of the ledger: one that was restored gives the numbers of its lost transactions to others.
-- ask.marker_at says which key is the mark; the counters are before it. ask.amount and ask.tokens are texts: what was
-- spent may be greater than what a double holds, and is only ever added.
local now = moment()
local reaped = reap(now)

local life = incarnation()
if redis.call('GET', KEYS[ask.marker_at]) == ask.ledger and not ask.recount then
  return {'repeated', reaped}
end
redis.call('SET', KEYS[ask.marker_at], ask.ledger, 'PX', ask.closed_keep_ms)

if ask.id ~= '' then
  close(ask.id, SETTLED)
end

local meta = redis.call('HMGET', KEYS[1], 'inc', 'pos')
if meta[1] ~= life or number(meta[2]) < ask.position then
  redis.call('HSET', KEYS[1], 'inc', life, 'pos', int(ask.position))
end
for i = FIXED + 1, ask.marker_at - 1 do
  local kept = redis.call('HMGET', KEYS[i], 'inc', 'pos')
  if kept[1] == life then
    if ask.recount then
      redis.call('DEL', KEYS[i])
    elseif ask.position > tonumber(kept[2]) then
      redis.call('HINCRBY', KEYS[i], 'm', ask.amount)
      redis.call('HINCRBY', KEYS[i], 't', ask.tokens)
    end
  end
end
touch()
return {'settled', reaped}
