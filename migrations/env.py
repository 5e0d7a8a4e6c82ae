"""Run by alembic. The transaction and the connection are the caller's: either all of a migration is there, or nothing."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    transactional_ddl=True,  # SQLite can; alembic's default for it is that it cannot
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
