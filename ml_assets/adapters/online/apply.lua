-- One write, whole: Redis runs a script while nobody reads, so no reader sees half of it.
-- KEYS: schema, views, entities, time of the view's newest row, staged rows.
-- ARGV: view, schema as the writer saw it, schema from now on, how many features are new,
--       prefix of the rows' keys, first, last ('' to remove nothing), pieces staged, first and last time staged.
-- Gives 0, and changes nothing, when another writer changed the schema meanwhile.
local view, seen, schema, added, prefix, first, last, pieces, earliest, latest = unpack(ARGV)
local call = redis.call
if call('LLEN', KEYS[5]) ~= tonumber(pieces) then return redis.error_reply('staged rows are gone; write again') end
if (call('GET', KEYS[1]) or '') ~= seen then
  call('DEL', KEYS[5])
  return 0
end
local newest = tonumber(call('GET', KEYS[4]) or '-inf')

-- A row is its time in 8 bytes and a msgpack array, which gets a null for each new feature.
local function longer(row)
  local code = string.byte(row, 9)
  local short = code < 0xa0
  local n = (short and code - 0x90 or string.byte(row, 10) * 256 + string.byte(row, 11)) + added
  local values = string.sub(row, short and 10 or 12)
  return string.sub(row, 1, 8) .. string.char(0xdc, math.floor(n / 256), n % 256) .. values .. string.rep('\192', added)
end

if tonumber(added) > 0 then
  for _, entity in ipairs(call('SMEMBERS', KEYS[3])) do
    local rows = call('ZRANGE', prefix .. entity, 0, -1, 'WITHSCORES')
    call('DEL', prefix .. entity)
    for place = 1, #rows, 2 do call('ZADD', prefix .. entity, rows[place + 1], longer(rows[place])) end
  end
end
call('SET', KEYS[1], schema)
call('SADD', KEYS[2], view)

if first ~= '' and newest >= tonumber(first) then
  local left = -math.huge
  for _, entity in ipairs(call('SMEMBERS', KEYS[3])) do
    call('ZREMRANGEBYSCORE', prefix .. entity, first, last)
    left = math.max(left, tonumber(call('ZREVRANGE', prefix .. entity, 0, 0, 'WITHSCORES')[2] or '-inf'))
  end
  newest = left
end

local over = pieces ~= '0' and newest >= tonumber(earliest)
for piece = 0, pieces - 1 do
  local rows = cmsgpack.unpack(call('LINDEX', KEYS[5], piece))
  local entities, before = {}, nil
  for place = 1, #rows, 3 do
    local entity, at = rows[place], rows[place + 1]
    if over or entity == before then call('ZREMRANGEBYSCORE', prefix .. entity, at, at) end
    call('ZADD', prefix .. entity, at, rows[place + 2])
    if entity ~= before then entities[#entities + 1] = entity end
    before = entity
  end
  call('SADD', KEYS[3], unpack(entities))
end
call('DEL', KEYS[5])
if pieces ~= '0' then newest = math.max(newest, tonumber(latest)) end
if newest > -math.huge then call('SET', KEYS[4], string.format('%.0f', newest)) else call('DEL', KEYS[4]) end
return 1
