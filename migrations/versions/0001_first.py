"""The first schema. SQL as it was: a revision never changes, whatever becomes of the tables later."""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = (
    """
    CREATE TABLE meta (
        one INTEGER NOT NULL CONSTRAINT ck_meta_one CHECK (one = 1),
        store_id TEXT NOT NULL CONSTRAINT ck_meta_store_id CHECK (store_id GLOB '[0-9a-f][0-9a-f][0-9a-f][0-9a-f]'),
        generation INTEGER NOT NULL CONSTRAINT ck_meta_generation CHECK (generation >= 0),
        created_us INTEGER NOT NULL,
        CONSTRAINT pk_meta PRIMARY KEY (one)
    )
    """,
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
    )
    """,
    """
    CREATE TABLE prefix_list (
        digest TEXT NOT NULL CONSTRAINT ck_prefix_list_digest CHECK (length(digest) = 64),
        packed BLOB NOT NULL,
        CONSTRAINT pk_prefix_list PRIMARY KEY (digest)
    )
    """,
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
    )
    """,
    """
    CREATE INDEX ix_history_generation ON history (generation)
    """,
    """
    CREATE INDEX ix_history_tunnel ON history (tunnel, id)
    """,
    """
    CREATE TABLE ledger (
        "key" TEXT NOT NULL CONSTRAINT ck_ledger_key CHECK (key = 'file:/etc/resolv.conf' OR key GLOB 'sysctl:net.ipv[46].*'),
        previous BLOB,
        value BLOB NOT NULL,
        at_us INTEGER NOT NULL,
        CONSTRAINT pk_ledger PRIMARY KEY ("key")
    )
    """,
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
        CONSTRAINT pk_intent PRIMARY KEY (name),
        CONSTRAINT ck_intent_name_length CHECK (length(name) BETWEEN 1 AND 32),
        CONSTRAINT ck_intent_name_letters CHECK (name GLOB '[a-z0-9]*' AND name NOT GLOB '*[^a-z0-9_-]*'),
        CONSTRAINT uq_intent_slot UNIQUE (slot),
        CONSTRAINT uq_intent_tunnel_id UNIQUE (tunnel_id),
        CONSTRAINT fk_intent_source FOREIGN KEY(source) REFERENCES source (name)
    )
    """,
    """
    CREATE INDEX ix_intent_source ON intent (source)
    """,
    """
    CREATE UNIQUE INDEX ix_intent_interface ON intent (interface) WHERE withdrawn = 0
    """,
    """
    CREATE TABLE ledger_user (
        "key" TEXT NOT NULL,
        tunnel TEXT NOT NULL,
        CONSTRAINT pk_ledger_user PRIMARY KEY ("key", tunnel),
        CONSTRAINT fk_ledger_user_key FOREIGN KEY("key") REFERENCES ledger ("key") ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE intent_prefix_list (
        intent TEXT NOT NULL,
        digest TEXT NOT NULL,
        CONSTRAINT pk_intent_prefix_list PRIMARY KEY (intent, digest),
        CONSTRAINT fk_intent_prefix_list_intent FOREIGN KEY(intent) REFERENCES intent (name) ON DELETE CASCADE,
        CONSTRAINT fk_intent_prefix_list_digest FOREIGN KEY(digest) REFERENCES prefix_list (digest)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
