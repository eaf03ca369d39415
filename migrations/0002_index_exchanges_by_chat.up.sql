-- The cost totals are read by chat, in order of time; without an index each reading scans every exchange.
CREATE INDEX exchanges_by_chat ON exchanges (chat_id, start);
