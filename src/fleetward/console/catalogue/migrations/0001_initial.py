import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Product",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=64, unique=True)),
                ("floor", models.BigIntegerField(default=0)),
                ("ramp", models.JSONField(default=list)),
                ("when_nothing_is_allowed", models.CharField(default="keep", max_length=8)),
                ("listed", models.BooleanField(default=True)),
                ("problem", models.TextField(blank=True)),
                ("seen", models.DateTimeField()),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Repository",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("url", models.CharField(blank=True, max_length=2000)),
                ("checked", models.DateTimeField(null=True)),
                ("refreshed", models.DateTimeField(null=True)),
                ("root", models.BigIntegerField(default=0)),
                ("timestamp", models.BigIntegerField(default=0)),
                ("issued", models.DateTimeField(null=True)),
                ("interval", models.BigIntegerField(default=0)),
                ("frozen", models.BooleanField(default=False)),
                ("clock_ahead", models.BigIntegerField(null=True)),
                (
                    "problem_kind",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("", ""),
                            ("trust", "trust"),
                            ("network", "network"),
                            ("disk", "disk"),
                            ("configuration", "configuration"),
                        ],
                        max_length=16,
                    ),
                ),
                ("problem", models.TextField(blank=True)),
                ("problem_since", models.DateTimeField(null=True)),
                ("leader", models.CharField(blank=True, max_length=32)),
                ("lease", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Role",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("role", models.CharField(max_length=100, unique=True)),
                ("version", models.BigIntegerField()),
                ("expires", models.DateTimeField(null=True)),
                ("keyids", models.JSONField(default=list)),
                ("threshold", models.BigIntegerField()),
                ("place", models.BigIntegerField()),
                ("changed", models.DateTimeField()),
            ],
            options={
                "ordering": ["place"],
            },
        ),
        migrations.CreateModel(
            name="Release",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=64)),
                ("seq", models.BigIntegerField()),
                ("created", models.DateTimeField()),
                ("manifest", models.CharField(max_length=64)),
                ("engine", models.CharField(max_length=200)),
                ("engine_min", models.CharField(blank=True, max_length=200)),
                ("engine_max", models.CharField(blank=True, max_length=200)),
                ("tree", models.CharField(max_length=64)),
                ("tree_length", models.BigIntegerField()),
                ("files", models.BigIntegerField()),
                ("codec", models.CharField(max_length=32)),
                ("pack", models.CharField(max_length=64)),
                ("pack_length", models.BigIntegerField()),
                ("urgent", models.BooleanField(default=False)),
                ("listed", models.BooleanField(default=True)),
                ("revoked", models.BooleanField(default=False)),
                ("reason", models.TextField(blank=True)),
                ("seen", models.DateTimeField()),
                (
                    "product",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="releases",
                        to="catalogue.product",
                    ),
                ),
            ],
            options={
                "ordering": ["-seq"],
            },
        ),
        migrations.CreateModel(
            name="Delta",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("base", models.CharField(max_length=64)),
                ("base_tree", models.CharField(max_length=64)),
                ("codec", models.CharField(max_length=32)),
                ("encoder", models.CharField(blank=True, max_length=200)),
                ("memory", models.BigIntegerField()),
                ("sha256", models.CharField(max_length=64)),
                ("length", models.BigIntegerField()),
                (
                    "release",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deltas",
                        to="catalogue.release",
                    ),
                ),
            ],
            options={
                "ordering": ["length", "id"],
            },
        ),
        migrations.CreateModel(
            name="Comparison",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "stage",
                    models.CharField(
                        choices=[
                            ("queued", "queued"),
                            ("computing", "computing"),
                            ("done", "done"),
                            ("failed", "failed"),
                        ],
                        max_length=9,
                    ),
                ),
                ("reader", models.BigIntegerField()),
                ("result", models.JSONField(null=True)),
                ("reason", models.TextField(blank=True)),
                ("asked", models.DateTimeField()),
                ("begun", models.DateTimeField(null=True)),
                ("ended", models.DateTimeField(null=True)),
                (
                    "new",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="compared_to",
                        to="catalogue.release",
                    ),
                ),
                (
                    "old",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="compared_from",
                        to="catalogue.release",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Channel",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=64)),
                ("points_at", models.CharField(max_length=64)),
                ("plan", models.CharField(max_length=8)),
                ("state", models.CharField(max_length=16)),
                ("waves", models.JSONField(default=list)),
                ("open", models.BigIntegerField(default=0)),
                ("since", models.DateTimeField()),
                ("listed", models.BooleanField(default=True)),
                (
                    "product",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="channels",
                        to="catalogue.product",
                    ),
                ),
                (
                    "previous",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="before",
                        to="catalogue.release",
                    ),
                ),
                (
                    "release",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="current",
                        to="catalogue.release",
                    ),
                ),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Move",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField()),
                ("issued", models.DateTimeField()),
                ("timestamp", models.BigIntegerField()),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("first", "first"),
                            ("release", "release"),
                            ("state", "state"),
                            ("waves", "waves"),
                        ],
                        max_length=8,
                    ),
                ),
                ("release", models.CharField(max_length=64)),
                ("seq", models.BigIntegerField()),
                ("previous", models.CharField(blank=True, max_length=64)),
                ("state", models.CharField(max_length=16)),
                ("open", models.BigIntegerField(default=0)),
                ("waves", models.BigIntegerField(default=0)),
                (
                    "channel",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="moves",
                        to="catalogue.channel",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["channel", "-id"], name="move_by_channel")],
            },
        ),
        migrations.AddIndex(
            model_name="release",
            index=models.Index(fields=["product", "-seq"], name="release_by_seq"),
        ),
        migrations.AddConstraint(
            model_name="release",
            constraint=models.UniqueConstraint(fields=("product", "name"), name="one_release_each"),
        ),
        migrations.AddIndex(
            model_name="comparison",
            index=models.Index(fields=["stage", "id"], name="comparison_by_stage"),
        ),
        migrations.AddConstraint(
            model_name="comparison",
            constraint=models.UniqueConstraint(fields=("old", "new"), name="one_comparison_each"),
        ),
        migrations.AddConstraint(
            model_name="channel",
            constraint=models.UniqueConstraint(fields=("product", "name"), name="one_channel_each"),
        ),
    ]
