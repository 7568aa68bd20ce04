-- Messages that are waiting or leased. `lease` is the fencing token of the claim that holds the message.
CREATE TABLE message (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    lease INTEGER,
    lease_until_ms INTEGER,
    deliveries INTEGER NOT NULL DEFAULT 0,
    body BLOB NOT NULL
);
CREATE INDEX message_ready ON message (queue, priority, due_ms, seq) WHERE lease IS NULL;
CREATE INDEX message_leased ON message (queue, lease_until_ms) WHERE lease IS NOT NULL;
-- Idempotency keys outlive their messages.
CREATE TABLE unique_key (
    key TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    expires_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX unique_key_expiry ON unique_key (expires_ms);
CREATE TABLE dead_letter (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    queue TEXT NOT NULL,
    workflow TEXT,
    reason TEXT NOT NULL,
    died_ms INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    detail BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX dead_letter_age ON dead_letter (died_ms, seq);
CREATE INDEX dead_letter_queue ON dead_letter (queue, died_ms, seq);
-- Every queue that ever held something.
CREATE TABLE queue (name TEXT PRIMARY KEY) WITHOUT ROWID;
