import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("organisation", "0002_first_groups"),
    ]

    operations = [
        migrations.CreateModel(
            name="Turn",
            fields=[
                ("work", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("holder", models.CharField(max_length=32)),
                ("until", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="Relay",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("url", models.CharField(max_length=500, unique=True)),
                ("name", models.CharField(db_index=True, max_length=300)),
                (
                    "listed",
                    models.CharField(
                        choices=[
                            ("signed", "signed"),
                            ("settings", "settings"),
                            ("nobody", "nobody"),
                        ],
                        max_length=8,
                    ),
                ),
                ("added", models.DateTimeField()),
                ("polled", models.DateTimeField(null=True)),
                ("answered", models.DateTimeField(null=True)),
                ("problem", models.CharField(blank=True, max_length=300)),
                ("problem_since", models.DateTimeField(null=True)),
                ("version", models.BigIntegerField(default=0)),
                ("version_since", models.DateTimeField(null=True)),
                ("counters", models.JSONField(default=dict)),
                ("said", models.JSONField(default=dict)),
                ("hosts", models.BigIntegerField(default=0)),
                ("hosts_behind", models.BigIntegerField(default=0)),
                (
                    "site",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="relays",
                        to="organisation.site",
                    ),
                ),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Sample",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField()),
                ("span", models.BigIntegerField()),
                ("asked", models.BigIntegerField(default=0)),
                ("answered", models.BigIntegerField(default=0)),
                ("hits", models.BigIntegerField(default=0)),
                ("misses", models.BigIntegerField(default=0)),
                ("upstream_bytes", models.BigIntegerField(default=0)),
                ("delivered_bytes", models.BigIntegerField(default=0)),
                ("overloaded", models.BigIntegerField(default=0)),
                ("spool_bytes", models.BigIntegerField(default=0)),
                ("lag", models.BigIntegerField(default=0)),
                (
                    "relay",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="samples",
                        to="relays.relay",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["span", "at"], name="sample_by_time")],
                "constraints": [
                    models.UniqueConstraint(fields=("relay", "span", "at"), name="one_sample_each")
                ],
            },
        ),
    ]
