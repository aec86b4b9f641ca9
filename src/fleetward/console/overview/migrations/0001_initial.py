import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
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
                ("transition", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="Health",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("hosts", models.BigIntegerField()),
                ("at_risk", models.BigIntegerField()),
                ("bare", models.BigIntegerField()),
                ("silent", models.BigIntegerField()),
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
        ),
        migrations.CreateModel(
            name="Arrival",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("product", models.CharField(max_length=64)),
                ("release", models.CharField(max_length=64)),
                ("seq", models.BigIntegerField()),
                ("created", models.DateTimeField()),
                ("minutes", models.BigIntegerField()),
                ("hosts", models.BigIntegerField()),
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
                "indexes": [models.Index(fields=["product", "release"], name="arrival_by_release")],
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
                ("product", models.CharField(max_length=64)),
                ("channel", models.CharField(max_length=64)),
                ("release", models.CharField(blank=True, max_length=64)),
                ("seq", models.BigIntegerField()),
                ("freshness", models.CharField(max_length=12)),
                ("hosts", models.BigIntegerField()),
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
                "indexes": [models.Index(fields=["product", "site"], name="tally_by_product")],
            },
        ),
    ]
