CREATE TABLE schedules (
    id TEXT PRIMARY KEY NOT NULL,
    task TEXT NOT NULL,
    engine TEXT NOT NULL,
    state TEXT NOT NULL,
    revision INTEGER NOT NULL,
    next_fire_us INTEGER,
    last_fire_us INTEGER,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    external_id TEXT,
    definition BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX schedules_due ON schedules (engine, next_fire_us) WHERE next_fire_us IS NOT NULL;
CREATE TABLE occurrences (
    schedule_id TEXT NOT NULL,
    fire_us INTEGER NOT NULL,
    state TEXT NOT NULL,
    until_us INTEGER NOT NULL,
    count INTEGER NOT NULL,
    reason TEXT NOT NULL,
    job_id TEXT,
    decided_us INTEGER NOT NULL,
    owner TEXT,
    lease_until_us INTEGER,
    revision INTEGER NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (schedule_id, fire_us)
) WITHOUT ROWID;
CREATE INDEX occurrences_open ON occurrences (state, fire_us) WHERE state = 'claimed' OR state = 'held';
CREATE INDEX occurrences_unfinished ON occurrences (schedule_id, fire_us) WHERE state = 'dispatched' AND ended = 0;
CREATE INDEX occurrences_decided ON occurrences (decided_us);
CREATE TABLE runs (
    id TEXT NOT NULL UNIQUE,
    job_id TEXT,
    task TEXT NOT NULL,
    engine INTEGER NOT NULL,
    state INTEGER NOT NULL,
    ends_job INTEGER NOT NULL,
    schedule_id TEXT,
    parent_id TEXT,
    at_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    details BLOB NOT NULL
);
-- One narrow index in time order carries everything that listings filter by: a row costs one append at its end,
-- where an index per filter would cost a scattered page each. Listings scan it from the newest end.
CREATE INDEX runs_by_time ON runs (at_ms, schedule_id, task, state, engine);
CREATE INDEX runs_not_succeeded ON runs (state, at_ms) WHERE state <> 10;
CREATE INDEX runs_by_parent ON runs (parent_id, at_ms) WHERE parent_id IS NOT NULL;
CREATE INDEX runs_by_foreign_job ON runs (job_id) WHERE job_id IS NOT NULL;
CREATE TABLE requests (
    id TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    asked_ms INTEGER NOT NULL,
    job_id TEXT
) WITHOUT ROWID;
CREATE TABLE processes (
    id TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL,
    details TEXT NOT NULL
) WITHOUT ROWID;
-- Counts what engines in other processes must hear of, so that they need not look after every recorded run.
CREATE TABLE steering (changes INTEGER NOT NULL);
INSERT INTO steering (changes) VALUES (0);
CREATE TRIGGER schedule_stored AFTER INSERT ON schedules BEGIN UPDATE steering SET changes = changes + 1; END;
CREATE TRIGGER schedule_removed AFTER DELETE ON schedules BEGIN UPDATE steering SET changes = changes + 1; END;
CREATE TRIGGER request_left AFTER INSERT ON requests BEGIN UPDATE steering SET changes = changes + 1; END;
