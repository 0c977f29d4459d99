from django.db import migrations

from loyalty_site.schedules import install_schedules


def install(apps, schema_editor):
    install_schedules(apps)


class Migration(migrations.Migration):
    dependencies = [
        ("loyalty_site", "0001_job_runs"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [migrations.RunPython(install, migrations.RunPython.noop)]
