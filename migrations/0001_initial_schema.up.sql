-- A chat must survive a restart, and what each exchange with a model cost must be known afterwards.
-- vmpilot: revision 57dc007f6d46
--
-- IF NOT EXISTS, because release 0.5 made "chats" and release 0.6 made both tables without a version table.
CREATE TABLE IF NOT EXISTS chats (
    chat_id TEXT PRIMARY KEY,
    initial_request TEXT,
    project_root TEXT,
    messages TEXT NOT NULL,
    cache_info TEXT NOT NULL,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE IF NOT EXISTS exchanges (
    exchange_id INTEGER PRIMARY KEY AUTOINCREMENT,
    chat_id TEXT NOT NULL,
    model TEXT NOT NULL,
    request TEXT,
    cost JSON,
    start TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    "end" TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
