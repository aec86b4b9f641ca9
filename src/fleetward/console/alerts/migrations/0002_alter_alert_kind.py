from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("alerts", "0001_initial"),
    ]

    operations = [
        migrations.AlterField(
            model_name="alert",
            name="kind",
            field=models.CharField(
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
                    ("suspicious-listener", "Suspicious listeners"),
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
    ]
