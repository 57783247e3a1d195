-- Rows of some entities that are too old; KEYS: entities. ARGV: prefix of the rows' keys, the first time that stays
-- ('' where the newest row of each entity stays), then the entities.
for place = 3, #ARGV do
  local key = ARGV[1] .. ARGV[place]
  if ARGV[2] == '' then
    redis.call('ZREMRANGEBYRANK', key, 0, -2)
  else
    redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. ARGV[2])
  end
  if redis.call('EXISTS', key) == 0 then redis.call('SREM', KEYS[1], ARGV[place]) end
end
