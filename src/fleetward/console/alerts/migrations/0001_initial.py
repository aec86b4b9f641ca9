import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("organisation", "0002_first_groups"),
    ]

    operations = [
        migrations.CreateModel(
            name="Alert",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("unprotected", "Unprotected hosts"),
                            ("repository-trust", "Repository cannot be trusted"),
                            ("role-expired", "Role has expired"),
                            ("relay-frozen", "Relay freezes"),
                            ("host-frozen", "Frozen hosts"),
                            ("repository-frozen", "Repository freezes"),
                            ("host-cloned", "Cloned host"),
                            ("rollout-halted", "Rollout halted"),
                            ("rolled-back", "Release rolled back"),
                            ("rejected", "Release rejected"),
                            ("refused-source", "Source refused"),
                            ("unexpected-listener", "Unexpected listeners"),
                            ("drift", "Files changed"),
                            ("silent", "Silent hosts"),
                            ("events-dropped", "Events lost"),
                            ("relay-lost", "Relay does not answer"),
                            ("relay-behind", "Relay is behind"),
                            ("spool-filling", "Spool fills"),
                            ("repository-problem", "Repository cannot be followed"),
                            ("role-expiring", "Role expires soon"),
                        ],
                        max_length=32,
                    ),
                ),
                ("subject", models.CharField(max_length=200)),
                ("severity", models.SmallIntegerField()),
                ("title", models.CharField(max_length=300)),
                ("detail", models.TextField(blank=True)),
                ("link", models.CharField(blank=True, max_length=300)),
                ("hosts", models.BigIntegerField(default=0)),
                ("most_hosts", models.BigIntegerField(default=0)),
                ("is_open", models.BooleanField(default=True)),
                ("opened", models.DateTimeField()),
                ("last_seen", models.DateTimeField()),
                ("away", models.DateTimeField(null=True)),
                ("resolved", models.DateTimeField(null=True)),
                ("returns", models.BigIntegerField(default=0)),
                ("acknowledged", models.DateTimeField(null=True)),
                ("acknowledged_by", models.CharField(blank=True, max_length=200)),
                ("note", models.CharField(blank=True, max_length=300)),
                ("told", models.DateTimeField(null=True)),
                ("told_hosts", models.BigIntegerField(default=0)),
                (
                    "site",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="alerts",
                        to="organisation.site",
                    ),
                ),
            ],
            options={
                "ordering": ["-severity", "-id"],
            },
        ),
        migrations.CreateModel(
            name="Step",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField()),
                ("what", models.CharField(max_length=16)),
                ("by", models.CharField(blank=True, max_length=200)),
                ("words", models.CharField(blank=True, max_length=300)),
                (
                    "alert",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="steps",
                        to="alerts.alert",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(fields=["is_open", "-severity", "-id"], name="alert_by_severity"),
        ),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(fields=["kind", "subject", "-id"], name="alert_by_subject"),
        ),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(fields=["resolved"], name="alert_by_resolved"),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.UniqueConstraint(
                condition=models.Q(("is_open", True)),
                fields=("kind", "subject"),
                name="one_open_alert_each",
            ),
        ),
    ]
