"""What is executed. Made by `python -m reconciler.store.statements` of what is defined there; not to be edited."""

GENERATION = """
SELECT meta.generation
FROM meta"""

SET_GENERATION = """
UPDATE meta SET generation=:generation"""

PUT_SOURCE = """
INSERT INTO source (name, path, host, generation, applied_us, tunnels, inputs, warnings, forgotten) VALUES (:name,
:path, :host, :generation, :applied_us, :tunnels, :inputs, :warnings, :forgotten) ON CONFLICT (name) DO UPDATE SET path
= excluded.path, host = excluded.host, generation = excluded.generation, applied_us = excluded.applied_us, tunnels =
excluded.tunnels, inputs = excluded.inputs, warnings = excluded.warnings, forgotten = excluded.forgotten"""

FORGET_SOURCE = """
UPDATE source SET forgotten=1 WHERE source.name = :source AND source.forgotten = 0 AND (source.name NOT IN (SELECT
intent.source
FROM intent
WHERE intent.withdrawn = 0))"""

DELETE_EMPTY_SOURCES = """
DELETE FROM source WHERE (source.forgotten = 1 OR source.host = '{}') AND (source.name NOT IN (SELECT intent.source
FROM intent))"""

SOURCES_OF_INTENTS = """
SELECT intent.name, intent.source
FROM intent"""

FREE_INTERFACE = """
UPDATE intent SET interface=NULL WHERE intent.name = :intent"""

PUT_INTENT = """
INSERT INTO intent (name, source, slot, tunnel_id, generation, interface, document, held, withdrawn, started_boot,
state, since_us, up_since_us, attempt, next_retry_us, error, worked, last_addresses, vouched) VALUES (?, ?, ?, ?, ?, ?,
?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET source = excluded.source, slot = excluded.slot,
tunnel_id = excluded.tunnel_id, generation = excluded.generation, interface = excluded.interface, document =
excluded.document, held = excluded.held, withdrawn = excluded.withdrawn, started_boot = excluded.started_boot, state =
excluded.state, since_us = excluded.since_us, up_since_us = excluded.up_since_us, attempt = excluded.attempt,
next_retry_us = excluded.next_retry_us, error = excluded.error, worked = excluded.worked, last_addresses =
excluded.last_addresses, vouched = excluded.vouched"""

SET_PROGRESS = """
UPDATE intent SET state=?, since_us=?, up_since_us=?, attempt=?, next_retry_us=?, error=?, worked=?, last_addresses=?
WHERE intent.name = ?"""

DELETE_INTENT = """
DELETE FROM intent WHERE intent.name = :intent"""

PUT_LIST = """
INSERT INTO prefix_list (digest, packed) VALUES (:digest, :packed) ON CONFLICT DO NOTHING"""

UNLINK_LISTS = """
DELETE FROM intent_prefix_list WHERE intent_prefix_list.intent = :intent"""

LINK_LIST = """
INSERT INTO intent_prefix_list (intent, digest) VALUES (:intent, :digest)"""

DELETE_UNUSED_LISTS = """
DELETE FROM prefix_list WHERE (prefix_list.digest NOT IN (SELECT intent_prefix_list.digest
FROM intent_prefix_list))"""

ADD_LINE = """
INSERT INTO history (at_us, tunnel, source, generation, uid, actor, event, cause, outcome) VALUES (?, ?, ?, ?, ?, ?, ?,
?, ?)"""

MAY_BE_TOO_MANY_LINES = """
SELECT (SELECT max(history.id) AS max_1
FROM history) - (SELECT min(history.id) AS min_1
FROM history) >= 1000 AS anon_1"""

BOUND_LINES_OF_TUNNEL = """
DELETE FROM history WHERE history.tunnel IS :tunnel AND history.id <= (SELECT history.id
FROM history
WHERE history.tunnel IS :tunnel ORDER BY history.id DESC
LIMIT 1 OFFSET 1000)"""

BOUND_LINES = """
DELETE FROM history WHERE history.id <= (SELECT max(history.id) AS max_1
FROM history) - 10000"""

SET_OUTCOME = """
UPDATE history SET outcome=:outcome WHERE history.generation = :generation AND history.event IN ('saved', 'created',
'changed', 'withdrawn') AND history.outcome != :outcome AND instr(:named, '<' || coalesce(history.tunnel, '') || '>') =
0"""

SET_OUTCOME_OF = """
UPDATE history SET outcome=:outcome WHERE history.generation = :generation AND history.event IN ('saved', 'created',
'changed', 'withdrawn') AND history.outcome != :outcome AND history.tunnel = :tunnel"""

OWING_TUNNELS = """
SELECT ledger_user.tunnel
FROM ledger_user"""

PUT_ENTRY = """
INSERT INTO ledger ("key", previous, value, at_us) VALUES (:key, :previous, :value, :at_us) ON CONFLICT ("key") DO
UPDATE SET value = excluded.value"""

PUT_USER = """
INSERT INTO ledger_user ("key", tunnel) VALUES (:key, :tunnel) ON CONFLICT DO NOTHING"""

DELETE_USER = """
DELETE FROM ledger_user WHERE ledger_user."key" = :key AND ledger_user.tunnel = :tunnel"""

DELETE_UNUSED_ENTRIES = """
DELETE FROM ledger WHERE (ledger."key" NOT IN (SELECT ledger_user."key"
FROM ledger_user))"""

SET_VERSION = """
INSERT INTO alembic_version (version_num) VALUES (:version_num)"""

NEW_META = """
INSERT INTO meta (one, store_id, generation, created_us) VALUES (:one, :store_id, :generation, :created_us)"""

SCHEMA = (
    """
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
)""",
    """
CREATE TABLE history (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at_us INTEGER NOT NULL,
    tunnel TEXT,
    source TEXT,
    generation INTEGER,
    uid INTEGER,
    actor TEXT NOT NULL,
    event TEXT NOT NULL,
    cause TEXT NOT NULL,
    outcome TEXT NOT NULL
)""",
    """
CREATE INDEX ix_history_generation ON history (generation)""",
    """
CREATE INDEX ix_history_tunnel ON history (tunnel, id)""",
    """
CREATE TABLE ledger (
    "key" TEXT NOT NULL CONSTRAINT ck_ledger_key CHECK (key = 'file:/etc/resolv.conf' OR key GLOB 'sysctl:net.ipv[46].*'),
    previous BLOB,
    value BLOB NOT NULL,
    at_us INTEGER NOT NULL,
    CONSTRAINT pk_ledger PRIMARY KEY ("key")
)""",
    """
CREATE TABLE meta (
    one INTEGER NOT NULL CONSTRAINT ck_meta_one CHECK (one = 1),
    store_id TEXT NOT NULL CONSTRAINT ck_meta_store_id CHECK (store_id GLOB '[0-9a-f][0-9a-f][0-9a-f][0-9a-f]'),
    generation INTEGER NOT NULL CONSTRAINT ck_meta_generation CHECK (generation >= 0),
    created_us INTEGER NOT NULL,
    CONSTRAINT pk_meta PRIMARY KEY (one)
)""",
    """
CREATE TABLE prefix_list (
    digest TEXT NOT NULL CONSTRAINT ck_prefix_list_digest CHECK (length(digest) = 64),
    packed BLOB NOT NULL,
    CONSTRAINT pk_prefix_list PRIMARY KEY (digest)
)""",
    """
CREATE TABLE source (
    name TEXT NOT NULL CONSTRAINT ck_source_name CHECK (name <> ''),
    path TEXT NOT NULL,
    host TEXT NOT NULL CONSTRAINT ck_source_host CHECK (host GLOB '{*}'),
    generation INTEGER NOT NULL CONSTRAINT ck_source_generation CHECK (generation >= 1),
    applied_us INTEGER NOT NULL,
    tunnels INTEGER NOT NULL CONSTRAINT ck_source_tunnels CHECK (tunnels >= 0),
    inputs TEXT NOT NULL CONSTRAINT ck_source_inputs CHECK (inputs GLOB '[[]*]'),
    warnings TEXT NOT NULL CONSTRAINT ck_source_warnings CHECK (warnings GLOB '[[]*]'),
    forgotten INTEGER NOT NULL CONSTRAINT ck_source_forgotten CHECK (forgotten IN (0, 1)),
    CONSTRAINT pk_source PRIMARY KEY (name)
)""",
    """
CREATE TABLE intent (
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    slot INTEGER NOT NULL CONSTRAINT ck_intent_slot CHECK (slot >= 1),
    tunnel_id TEXT NOT NULL CONSTRAINT ck_intent_tunnel_id CHECK (tunnel_id GLOB '[0-9a-f][0-9a-f][0-9a-f][0-9a-f]'),
    generation INTEGER NOT NULL CONSTRAINT ck_intent_generation CHECK (generation >= 1),
    interface TEXT CONSTRAINT ck_intent_interface CHECK (length(CAST(interface AS BLOB)) BETWEEN 1 AND 15),
    document TEXT NOT NULL CONSTRAINT ck_intent_document CHECK (document GLOB '{*}'),
    held INTEGER NOT NULL CONSTRAINT ck_intent_held CHECK (held IN (0, 1)),
    withdrawn INTEGER NOT NULL CONSTRAINT ck_intent_withdrawn CHECK (withdrawn IN (0, 1)),
    started_boot TEXT,
    state TEXT NOT NULL CONSTRAINT ck_intent_state CHECK (state <> ''),
    since_us INTEGER,
    up_since_us INTEGER,
    attempt INTEGER NOT NULL CONSTRAINT ck_intent_attempt CHECK (attempt >= 0),
    next_retry_us INTEGER,
    error TEXT NOT NULL,
    worked INTEGER NOT NULL CONSTRAINT ck_intent_worked CHECK (worked IN (0, 1)),
    last_addresses TEXT NOT NULL CONSTRAINT ck_intent_addresses CHECK (last_addresses GLOB '[[]*]'),
    vouched TEXT DEFAULT '[]' NOT NULL CONSTRAINT ck_intent_vouched CHECK (vouched GLOB '[[]*]'),
    CONSTRAINT pk_intent PRIMARY KEY (name),
    CONSTRAINT ck_intent_name_length CHECK (length(name) BETWEEN 1 AND 32),
    CONSTRAINT ck_intent_name_letters CHECK (name GLOB '[a-z0-9]*' AND name NOT GLOB '*[^a-z0-9_-]*'),
    CONSTRAINT uq_intent_slot UNIQUE (slot),
    CONSTRAINT uq_intent_tunnel_id UNIQUE (tunnel_id),
    CONSTRAINT fk_intent_source FOREIGN KEY(source) REFERENCES source (name)
)""",
    """
CREATE UNIQUE INDEX ix_intent_interface ON intent (interface) WHERE withdrawn = 0""",
    """
CREATE INDEX ix_intent_source ON intent (source)""",
    """
CREATE TABLE ledger_user (
    "key" TEXT NOT NULL,
    tunnel TEXT NOT NULL,
    CONSTRAINT pk_ledger_user PRIMARY KEY ("key", tunnel),
    CONSTRAINT fk_ledger_user_key FOREIGN KEY("key") REFERENCES ledger ("key") ON DELETE CASCADE
)""",
    """
CREATE TABLE intent_prefix_list (
    intent TEXT NOT NULL,
    digest TEXT NOT NULL,
    CONSTRAINT pk_intent_prefix_list PRIMARY KEY (intent, digest),
    CONSTRAINT fk_intent_prefix_list_intent FOREIGN KEY(intent) REFERENCES intent (name) ON DELETE CASCADE,
    CONSTRAINT fk_intent_prefix_list_digest FOREIGN KEY(digest) REFERENCES prefix_list (digest)
)""",
)
