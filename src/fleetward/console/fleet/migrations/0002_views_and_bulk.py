import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("fleet", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="BulkDirective",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("nonce", models.CharField(max_length=32, unique=True)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("update-now", "update-now"),
                            ("verify-tree", "verify-tree"),
                            ("list-ports", "list-ports"),
                            ("roll-back", "roll-back"),
                            ("pause", "pause"),
                        ],
                        max_length=16,
                    ),
                ),
                ("product", models.CharField(blank=True, max_length=64)),
                ("until", models.DateTimeField(null=True)),
                ("query", models.CharField(blank=True, max_length=2000)),
                ("most", models.PositiveIntegerField()),
                ("asked", models.PositiveIntegerField(default=0)),
                ("passed_over", models.PositiveIntegerField(default=0)),
                ("reached", models.BigIntegerField(default=0)),
                ("is_complete", models.BooleanField(default=False)),
                ("created", models.DateTimeField()),
                ("created_by", models.CharField(max_length=200)),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="SavedView",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=64)),
                ("query", models.CharField(max_length=2000)),
                ("is_shared", models.BooleanField(default=False)),
                ("created", models.DateTimeField()),
            ],
            options={
                "ordering": ["name", "id"],
            },
        ),
        migrations.AddIndex(
            model_name="productstate",
            index=models.Index(
                fields=["product", "channel", "release", "host"], name="state_by_channel"
            ),
        ),
        migrations.AddField(
            model_name="directive",
            name="bulk",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="directives",
                to="fleet.bulkdirective",
            ),
        ),
        migrations.AddIndex(
            model_name="directive",
            index=models.Index(fields=["bulk", "state"], name="directive_by_bulk"),
        ),
        migrations.AddField(
            model_name="savedview",
            name="owner",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="saved_views",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddConstraint(
            model_name="savedview",
            constraint=models.UniqueConstraint(fields=("owner", "name"), name="one_view_a_name"),
        ),
    ]
