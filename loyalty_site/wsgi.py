import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "loyalty_site.settings")
os.environ.setdefault("DATABASE_LOCK_TIMEOUT_MS", "5000")  # somebody is waiting at a till
application = get_wsgi_application()

from django.conf import settings  # noqa: E402

from loyalty_site.restored import require_proven  # noqa: E402
from loyalty_site.starting import require_what_is_configured  # noqa: E402  Django is set up now
from wallet.apple.packages import pictures  # noqa: E402

require_proven()
require_what_is_configured()

if settings.APPLE_PASS_TYPE_ID:
    pictures(None)  # half a second of drawing, before a phone waits for it
