-- Where counters stand: spent money and tokens of each, then what its scope holds: money, tokens, requests.
local reaped = reap(moment())
local life = incarnation()
local spent, missing = spent_on_counters(life)
if #missing > 0 then
  return missing_reply(reaped, life, missing)
end
local reply = {'standing', reaped}
for i, scope in ipairs(ask.scopes) do
  local held = held_by(scope)
  for _, value in ipairs({spent[i].m, spent[i].t, held.m, held.t, held.n}) do
    reply[#reply + 1] = int(value)
  end
end
return reply
