"""The database itself refuses to change or remove what the audit log holds."""

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

# REPLACE would remove a row without the trigger of DELETE: no seq but the next may come.
_SQLITE_INSERT = """CREATE TRIGGER audit_entry_no_replace BEFORE INSERT ON audit_entry
       WHEN NEW.seq <> (SELECT COALESCE(MAX(seq), 0) + 1 FROM audit_entry)
       BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"""

_SQLITE = """CREATE TRIGGER audit_entry_no_{lower} BEFORE {event} ON audit_entry
       BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"""

_POSTGRESQL = (
    """CREATE FUNCTION audit_entry_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$""",
    """CREATE TRIGGER audit_entry_no_change BEFORE UPDATE OR DELETE ON audit_entry
       FOR EACH ROW EXECUTE FUNCTION audit_entry_refuse()""",
    """CREATE TRIGGER audit_entry_no_truncate BEFORE TRUNCATE ON audit_entry
       FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_refuse()""",
)


def _statements(vendor: str) -> tuple[str, ...]:
    if vendor == "postgresql":
        return _POSTGRESQL
    refusals = (_SQLITE.format(event=event, lower=event.lower()) for event in ("UPDATE", "DELETE"))
    return (*refusals, _SQLITE_INSERT)


def protect(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for statement in _statements(schema_editor.connection.vendor):
        schema_editor.execute(statement, params=None)


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]

    operations = [migrations.RunPython(protect)]
