"""One group per role, with every site; an organisation adds its own beside them."""

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

GROUPS = {
    "viewers": "viewer",
    "operators": "operator",
    "approvers": "approver",
    "administrators": "administrator",
}


def add_groups(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    group = apps.get_model("organisation", "Group")
    for name, role in GROUPS.items():
        group.objects.create(name=name, role=role, every_site=True)


class Migration(migrations.Migration):
    dependencies = [("organisation", "0001_initial")]

    operations = [migrations.RunPython(add_groups, migrations.RunPython.noop)]
