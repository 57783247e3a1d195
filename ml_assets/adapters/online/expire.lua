-- Rows of some entities that are too old; KEYS: entities, time of the view's newest row, what has expired before.
-- ARGV: prefix of the rows' keys, since when rows stay, 1 where of each entity the row that counts then stays as well,
-- then the entities.
local prefix, since, lasting = unpack(ARGV, 1, 3)
local newest = tonumber(redis.call('GET', KEYS[2]) or '-inf')
if lasting ~= '1' and newest < tonumber(since) then redis.call('DEL', KEYS[2]) end
local before = redis.call('GET', KEYS[3])
if before then
  local at, rest = string.match(before, '(%S+) (%d)')
  if tonumber(at) < tonumber(since) then at = since end
  if lasting ~= '1' then rest = '0' end
  redis.call('SET', KEYS[3], at .. ' ' .. rest)
end
for place = 4, #ARGV do
  local key, first = prefix .. ARGV[place], since
  if lasting == '1' then first = redis.call('ZREVRANGEBYSCORE', key, since, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] end
  if first then redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. first) end
  if redis.call('EXISTS', key) == 0 then redis.call('SREM', KEYS[1], ARGV[place]) end
end
