from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Entry",
            fields=[
                ("seq", models.BigIntegerField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField(db_index=True)),
                ("actor_kind", models.CharField(max_length=10)),
                ("actor", models.CharField(db_index=True, max_length=200)),
                ("address", models.CharField(blank=True, max_length=64)),
                ("action", models.CharField(db_index=True, max_length=64)),
                ("subject", models.CharField(db_index=True, max_length=300)),
                ("before", models.TextField(blank=True)),
                ("after", models.TextField(blank=True)),
                ("previous", models.CharField(max_length=64)),
                ("digest", models.CharField(max_length=64)),
            ],
            options={
                "ordering": ["-seq"],
            },
        ),
    ]
