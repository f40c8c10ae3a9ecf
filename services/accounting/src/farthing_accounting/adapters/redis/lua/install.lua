-- Loads counters with the ledger's sums up to transaction ask.position.
--
-- Refused when a later transaction was settled already (its settlement found no counter to add to, so only a newer sum has
-- it), and when the server is not the one that asked. A counter that is loaded stays as it is. Until ask.opens_ms nobody
-- is admitted against it: Redis lost its data, and whoever made a reservation brings it back.
local life = incarnation()
local meta = redis.call('HMGET', KEYS[1], 'inc', 'pos')
if ask.life ~= life or (meta[1] == life and number(meta[2]) > ask.position) then
  return {'again'}
end
for i = FIXED + 1, #KEYS do
  if redis.call('HGET', KEYS[i], 'inc') ~= life then
    local sum = ask.sums[i - FIXED]
    redis.call('HSET', KEYS[i], 'inc', life, 'pos', int(ask.position), 'm', sum.m, 't', sum.t)
    redis.call('PEXPIRE', KEYS[i], int(sum.keep_ms))
  end
end
if ask.opens_ms > 0 then
  redis.call('HSET', KEYS[1], 'opens', int(ask.opens_ms))
end
touch()
return {'installed'}
