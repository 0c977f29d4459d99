from django.db import migrations


class Migration(migrations.Migration):
    """Leave room on each page for the next version of a balance."""

    dependencies = [("loyalty", "0001_merchants_cards_ledger")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE loyalty_cardbalance SET (fillfactor = 85)",
            "ALTER TABLE loyalty_cardbalance RESET (fillfactor)",
        ),
    ]
