-- Rows of some entities that are too old; KEYS: entities. ARGV: prefix of the rows' keys, since when rows stay,
-- 1 where of each entity the row that counts then stays as well, then the entities.
for place = 4, #ARGV do
  local key, first = ARGV[1] .. ARGV[place], ARGV[2]
  if ARGV[3] == '1' then first = redis.call('ZREVRANGEBYSCORE', key, first, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] end
  if first then redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. first) end
  if redis.call('EXISTS', key) == 0 then redis.call('SREM', KEYS[1], ARGV[place]) end
end
