from django.db import migrations, models


class Migration(migrations.Migration):
    """A waiting line has a list of problems, and is deleted when it becomes a card instead of pointing to it."""

    dependencies = [("loyalty", "0003_ledger_checked_by_statement")]

    operations = [
        migrations.RemoveIndex(model_name="cardimportrow", name="card_import_row_waiting"),
        migrations.RemoveField(model_name="cardimportrow", name="card"),
        migrations.RemoveField(model_name="cardimportrow", name="problem"),
        migrations.AddField(
            model_name="cardimportrow",
            name="problems",
            field=models.JSONField(blank=True, default=list, help_text='A list of {"column", "reason"}.'),
        ),
    ]
