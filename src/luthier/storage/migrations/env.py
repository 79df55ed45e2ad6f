"""Alembic's environment: runs the migrations on the connection that ``storage.database.migrate`` opened.

What it does not: read an ini file or commit; the caller's transaction decides whether the upgrade happened.
"""

from alembic import context

from luthier.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
