-- Where counters stand: spent money and tokens of each, then what its scope holds: money, tokens, requests.
local reaped = reap(moment())
local life = incarnation()
local spent, missing = {}, {}
for i = 1, #ask.scopes do
  spent[i] = redis.call('HMGET', KEYS[FIXED + i], 'inc', 'm', 't')
  if spent[i][1] ~= life then
    missing[#missing + 1] = i
  end
end
if #missing > 0 then
  return missing_reply(reaped, life, missing)
end
local reply = {'standing', reaped}
for i, scope in ipairs(ask.scopes) do
  local held = redis.call('HMGET', KEYS[2], scope .. '|m', scope .. '|t', scope .. '|n')
  for _, value in ipairs({spent[i][2], spent[i][3], held[1] or '0', held[2] or '0', held[3] or '0'}) do
    reply[#reply + 1] = value
  end
end
return reply
