"""The tables. What must never be is a constraint: a bug here costs a refused command, not a broken host."""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

_HEX4 = "GLOB '[0-9a-f][0-9a-f][0-9a-f][0-9a-f]'"

# As alembic makes it: so a store that is created in one go can be migrated later.
alembic_version = Table(
    "alembic_version",
    metadata,
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)

meta = Table(
    "meta",
    metadata,
    Column("one", Integer, CheckConstraint("one = 1", name="one"), primary_key=True),
    Column("store_id", Text, CheckConstraint(f"store_id {_HEX4}", name="store_id"), nullable=False),
    Column("generation", Integer, CheckConstraint("generation >= 0", name="generation"), nullable=False),
    Column("created_us", Integer, nullable=False),
)

source = Table(
    "source",
    metadata,
    Column("name", Text, CheckConstraint("name <> ''", name="name"), primary_key=True, nullable=False),
    Column("path", Text, nullable=False),
    Column("host", Text, CheckConstraint("host GLOB '{*}'", name="host"), nullable=False),
    Column("generation", Integer, CheckConstraint("generation >= 1", name="generation"), nullable=False),
    Column("applied_us", Integer, nullable=False),
    Column("tunnels", Integer, CheckConstraint("tunnels >= 0", name="tunnels"), nullable=False),
    Column("inputs", Text, CheckConstraint("inputs GLOB '[[]*]'", name="inputs"), nullable=False),
    Column("warnings", Text, CheckConstraint("warnings GLOB '[[]*]'", name="warnings"), nullable=False),
    Column("forgotten", Integer, CheckConstraint("forgotten IN (0, 1)", name="forgotten"), nullable=False),
)

intent = Table(
    "intent",
    metadata,
    Column("name", Text, primary_key=True, nullable=False),
    Column("source", Text, ForeignKey("source.name"), nullable=False, index=True),
    Column("slot", Integer, CheckConstraint("slot >= 1", name="slot"), nullable=False),
    Column("tunnel_id", Text, CheckConstraint(f"tunnel_id {_HEX4}", name="tunnel_id"), nullable=False),
    Column("generation", Integer, CheckConstraint("generation >= 1", name="generation"), nullable=False),
    Column("interface", Text, CheckConstraint("length(CAST(interface AS BLOB)) BETWEEN 1 AND 15", name="interface")),
    Column("document", Text, CheckConstraint("document GLOB '{*}'", name="document"), nullable=False),
    Column("held", Integer, CheckConstraint("held IN (0, 1)", name="held"), nullable=False),
    Column("withdrawn", Integer, CheckConstraint("withdrawn IN (0, 1)", name="withdrawn"), nullable=False),
    Column("started_boot", Text),
    Column("state", Text, CheckConstraint("state <> ''", name="state"), nullable=False),
    Column("since_us", Integer),
    Column("up_since_us", Integer),
    Column("attempt", Integer, CheckConstraint("attempt >= 0", name="attempt"), nullable=False),
    Column("next_retry_us", Integer),
    Column("error", Text, nullable=False),
    Column("worked", Integer, CheckConstraint("worked IN (0, 1)", name="worked"), nullable=False),
    Column("last_addresses", Text, CheckConstraint("last_addresses GLOB '[[]*]'", name="addresses"), nullable=False),
    Column(
        "vouched", Text, CheckConstraint("vouched GLOB '[[]*]'", name="vouched"), nullable=False, server_default=text("'[]'")
    ),
    CheckConstraint("length(name) BETWEEN 1 AND 32", name="name_length"),
    CheckConstraint("name GLOB '[a-z0-9]*' AND name NOT GLOB '*[^a-z0-9_-]*'", name="name_letters"),
    UniqueConstraint("slot"),
    UniqueConstraint("tunnel_id"),
)
# A withdrawn tunnel may still have the interface that its successor declares.
Index("ix_intent_interface", intent.c.interface, unique=True, sqlite_where=text("withdrawn = 0"))

prefix_list = Table(
    "prefix_list",
    metadata,
    Column("digest", Text, CheckConstraint("length(digest) = 64", name="digest"), primary_key=True, nullable=False),
    Column("packed", LargeBinary, nullable=False),
)

intent_prefix_list = Table(
    "intent_prefix_list",
    metadata,
    Column("intent", Text, ForeignKey("intent.name", ondelete="CASCADE"), primary_key=True, nullable=False),
    Column("digest", Text, ForeignKey("prefix_list.digest"), primary_key=True, nullable=False),
)

history = Table(
    "history",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at_us", Integer, nullable=False),
    Column("tunnel", Text),
    Column("source", Text),
    Column("generation", Integer, index=True),
    Column("uid", Integer),
    Column("actor", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Index("ix_history_tunnel", "tunnel", "id"),
    sqlite_autoincrement=True,  # numbers are not used again: the bound counts on it
)

ledger = Table(
    "ledger",
    metadata,
    Column(
        "key",
        Text,
        CheckConstraint("key = 'file:/etc/resolv.conf' OR key GLOB 'sysctl:net.ipv[46].*'", name="key"),
        primary_key=True,
        nullable=False,
    ),
    Column("previous", LargeBinary),
    Column("value", LargeBinary, nullable=False),
    Column("at_us", Integer, nullable=False),
)

ledger_user = Table(
    "ledger_user",
    metadata,
    Column("key", Text, ForeignKey("ledger.key", ondelete="CASCADE"), primary_key=True, nullable=False),
    Column("tunnel", Text, primary_key=True, nullable=False),
)
