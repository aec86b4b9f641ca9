import django.db.models.deletion
from django.db import migrations, models

import fleetward.console.notices.models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Channel",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=64, unique=True)),
                (
                    "way",
                    models.CharField(
                        choices=[("webhook", "webhook"), ("email", "email"), ("syslog", "syslog")],
                        max_length=10,
                    ),
                ),
                ("target", models.CharField(max_length=500)),
                ("secret", models.CharField(blank=True, max_length=64)),
                (
                    "least",
                    models.SmallIntegerField(
                        choices=[(1, "note"), (2, "warning"), (3, "critical")],
                        default=fleetward.console.notices.models.Level["WARNING"],
                    ),
                ),
                ("is_on", models.BooleanField(default=True)),
                ("created", models.DateTimeField()),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Notice",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", models.CharField(db_index=True, max_length=200)),
                ("level", models.SmallIntegerField()),
                ("title", models.CharField(max_length=200)),
                ("body", models.TextField(blank=True)),
                ("link", models.CharField(blank=True, max_length=300)),
                ("at", models.DateTimeField(db_index=True)),
                ("repeats", models.IntegerField(default=0)),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        default=fleetward.console.notices.models.State["QUEUED"], max_length=10
                    ),
                ),
                ("attempts", models.IntegerField(default=0)),
                ("due", models.DateTimeField()),
                ("complaint", models.CharField(blank=True, max_length=300)),
                (
                    "channel",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="notices.channel",
                    ),
                ),
                (
                    "notice",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="notices.notice",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["state", "due"], name="due_deliveries")],
            },
        ),
    ]
