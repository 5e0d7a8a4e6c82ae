"""What manifests vouched for is kept with each tunnel. The table is made anew: SQLite adds columns behind the constraints."""

from alembic import op

revision = "0002"
down_revision = "0001"

COLUMNS = (
    "name, source, slot, tunnel_id, generation, interface, document, held, withdrawn, "
    "started_boot, state, since_us, up_since_us, attempt, next_retry_us, error, worked, last_addresses"
)
STATEMENTS = (
    """
    CREATE TABLE intent_next (
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
    )
    """,
    f"INSERT INTO intent_next ({COLUMNS}) SELECT {COLUMNS} FROM intent",  # noqa: S608 - our own words
    "DROP TABLE intent",
    "ALTER TABLE intent_next RENAME TO intent",
    "CREATE INDEX ix_intent_source ON intent (source)",
    "CREATE UNIQUE INDEX ix_intent_interface ON intent (interface) WHERE withdrawn = 0",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
