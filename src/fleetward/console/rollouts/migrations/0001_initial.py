import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("catalogue", "0002_channel_salt"),
        ("fleet", "0001_initial"),
        ("organisation", "0002_first_groups"),
    ]

    operations = [
        migrations.CreateModel(
            name="Counted",
            fields=[
                (
                    "channel",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="counted",
                        serialize=False,
                        to="catalogue.channel",
                    ),
                ),
                ("at", models.DateTimeField()),
                ("seconds", models.FloatField()),
                ("release", models.CharField(max_length=64)),
                ("state", models.CharField(max_length=16)),
                ("open", models.BigIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="Member",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("wave", models.BigIntegerField(null=True)),
                ("standing", models.CharField(max_length=10)),
                (
                    "channel",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="members",
                        to="catalogue.channel",
                    ),
                ),
                (
                    "host",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="rollouts",
                        to="fleet.host",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["channel", "standing", "id"], name="member_by_standing"),
                    models.Index(
                        fields=["channel", "wave", "standing", "id"], name="member_by_wave"
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("channel", "host"), name="one_membership_each")
                ],
            },
        ),
        migrations.CreateModel(
            name="Tally",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("wave", models.BigIntegerField(null=True)),
                ("standing", models.CharField(max_length=10)),
                ("hosts", models.BigIntegerField()),
                (
                    "channel",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="tallies",
                        to="catalogue.channel",
                    ),
                ),
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
                "indexes": [models.Index(fields=["channel", "site"], name="rollout_tally_by_site")],
            },
        ),
    ]
