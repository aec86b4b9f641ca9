import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("fleet", "0001_initial"),
        ("organisation", "0002_first_groups"),
    ]

    operations = [
        migrations.CreateModel(
            name="Counted",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField()),
                ("seconds", models.FloatField()),
                ("stored", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Group",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("protocol", models.CharField(max_length=3)),
                ("port", models.IntegerField()),
                ("sha256", models.CharField(blank=True, max_length=32)),
                ("verdict", models.CharField(max_length=10)),
                ("name", models.CharField(blank=True, max_length=200)),
                ("path", models.CharField(blank=True, max_length=200)),
                ("hosts", models.IntegerField()),
                ("first_seen", models.DateTimeField()),
                ("counted", models.DateTimeField()),
                (
                    "site",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="organisation.site",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        fields=["port", "protocol", "sha256", "verdict", "site"],
                        name="ports_group_by_place",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Listener",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("protocol", models.CharField(max_length=3)),
                ("port", models.IntegerField()),
                ("reach", models.CharField(max_length=16)),
                ("sha256", models.CharField(blank=True, max_length=32)),
                ("unit", models.CharField(blank=True, max_length=64)),
                ("container", models.CharField(blank=True, max_length=64)),
                ("name", models.CharField(blank=True, max_length=200)),
                ("path", models.CharField(blank=True, max_length=200)),
                ("verdict", models.CharField(max_length=10)),
                ("reasons", models.CharField(blank=True, max_length=200)),
                ("is_open", models.BooleanField()),
                ("first_seen", models.DateTimeField()),
                ("at", models.DateTimeField()),
                ("epoch", models.CharField(max_length=16)),
                ("e", models.BigIntegerField()),
                ("stored", models.DateTimeField()),
                (
                    "host",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="listeners",
                        to="fleet.host",
                    ),
                ),
                (
                    "key",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="listeners",
                        to="fleet.hostkey",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["host", "is_open"], name="listener_by_host"),
                    models.Index(
                        condition=models.Q(("is_open", True)),
                        fields=["verdict", "port", "protocol", "sha256", "host"],
                        name="listener_open",
                    ),
                    models.Index(fields=["stored"], name="listener_by_stored"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("key", "port", "protocol", "reach", "sha256", "unit", "container"),
                        name="one_listener_once",
                    )
                ],
            },
        ),
    ]
