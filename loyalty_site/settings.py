"""Settings, from environment variables alone. `.env.example` and docs/configuration.md describe each one."""

import logging
import os
from collections import ChainMap
from pathlib import Path

from loyalty_site.logging import logging_config
from loyalty_site.secret_files import secrets_or_end
from loyalty_site.variables import Variables

BASE_DIR = Path(__file__).resolve().parent.parent
env = Variables()
if (BASE_DIR / ".env").exists():
    env.read_env(BASE_DIR / ".env")
env.ENVIRON = ChainMap(secrets_or_end(os.environ), os.environ)

# --- this installation
# Development: a fixed key, readable logs, static files from the source tree. `make` targets set it.
DEVELOPMENT = env.bool("DEVELOPMENT", default=False)
if DEVELOPMENT and (BASE_DIR / ".local" / "wallet" / "environment").exists():
    # The Apple and the Google that `make run` and `make demo` stand in for.
    env.read_env(BASE_DIR / ".local" / "wallet" / "environment")
DEBUG = env.bool("DEBUG", default=False)  # tracebacks in the browser
SECRET_KEY = env.secret("SECRET_KEY", default="for-development-only-" + "x" * 40 if DEVELOPMENT else "")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
PUBLIC_URL = env.address("PUBLIC_URL", default="http://localhost:8000", like="https://points.example.com").rstrip("/")

# --- applications
INSTALLED_APPS = [
    "loyalty_site.apps.LoyaltySiteConfig",
    "loyalty_site.apps.LoyaltyAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
    "django_celery_beat",
    "django_structlog",
    "pgtrigger",
    "loyalty",
    "wallet",
    "notifications",
]

MIDDLEWARE = [
    "loyalty_site.metrics.middleware.CountRequests",
    # Headers on redirects, static files and refusals too.
    "csp.middleware.CSPMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "loyalty_site.request_log.RequestLogMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

ROOT_URLCONF = "loyalty_site.urls"
WSGI_APPLICATION = "loyalty_site.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- PostgreSQL
DATABASES = {
    "default": env.db_url(
        "DATABASE_URL",
        default="postgresql://localhost:5432/loyalty",
        like="postgresql://user:password@host:5432/name",
    )
}
# 0 costs a till four times the CPU; workers and commands keep their one connection anyway.
DATABASES["default"]["CONN_MAX_AGE"] = env.int("DATABASE_CONN_MAX_AGE", default=60)
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DATABASES["default"].setdefault("OPTIONS", {}).setdefault("connect_timeout", 5)
# A till that waits for a card gives up and says so. wsgi.py sets it; what runs without a person waits.
if lock_timeout := env.int("DATABASE_LOCK_TIMEOUT_MS", default=0):
    DATABASES["default"]["OPTIONS"].setdefault("options", f"-c lock_timeout={lock_timeout}")
# Tills queue up behind a migration that waits for their table, so it gives up and is tried again.
DATABASE_MIGRATION_LOCK_TIMEOUT_MS = env.int("DATABASE_MIGRATION_LOCK_TIMEOUT_MS", default=2000)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Celery. There is no CELERY_BEAT_SCHEDULE: it would overwrite what staff edit in the admin.
CELERY_BROKER_URL = env.address(
    "REDIS_URL",
    default="redis://localhost:6379/0",
    like="redis://:password@host:6379/0",
    schemes=("redis", "rediss"),
)
CELERY_BEAT_SCHEDULER = "loyalty_site.beat.LeaderScheduler"
CELERY_TIMEZONE = "UTC"
CELERY_TASK_IGNORE_RESULT = True  # outcomes are rows: JobRun, ExpirationRun
CELERY_TASK_ACKS_LATE = True  # a killed worker's task is delivered again; tasks are idempotent
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# No soft limit: it would surface inside a batch as one more failing item. All state is in rows.
CELERY_TASK_TIME_LIMIT = 600
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = {
    "notifications.*": {"queue": "notifications"},
    "wallet.*": {"queue": "wallet"},
}
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 3600,
    "unacked_restore_throttle": 1,
    # Without these, beat and .delay() hang for ever on a half-open connection.
    "socket_timeout": 5,
    "socket_connect_timeout": 3,
    "socket_keepalive": True,
    "health_check_interval": 10,
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
DJANGO_CELERY_BEAT_TZ_AWARE = True

# --- mail
vars().update(env.email_url("EMAIL_URL", default="smtp://localhost:25", like="smtp+tls://user:password@host:587"))
EMAIL_BACKEND = env.str("EMAIL_BACKEND", default=vars()["EMAIL_BACKEND"])
EMAIL_TIMEOUT = env.int("EMAIL_TIMEOUT", default=10)  # seconds; a hanging server holds up one batch, not the worker
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="loyalty@localhost")

# --- expiry
# A run that would take points from more cards of a merchant than both limits, without a timely notice, is
# refused until a person confirms the number. 0 in either switches the guard off.
LOYALTY_EXPIRY_GUARD_PERCENT = env.int("LOYALTY_EXPIRY_GUARD_PERCENT", default=25)
LOYALTY_EXPIRY_GUARD_CARDS = env.int("LOYALTY_EXPIRY_GUARD_CARDS", default=1000)
LOYALTY_CLOCK_TOLERANCE_SECONDS = env.int("LOYALTY_CLOCK_TOLERANCE_SECONDS", default=300)
LOYALTY_ALLOW_AS_OF = env.bool("LOYALTY_ALLOW_AS_OF", default=False)

# --- the APIs
API_VERSION = "1.0.0"
REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "loyalty.api.schema.OperationSchema",
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
    "URL_FORMAT_OVERRIDE": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
DRF_STANDARDIZED_ERRORS = {
    "EXCEPTION_HANDLER_CLASS": "loyalty.api.refusing.Handler",
    "EXCEPTION_FORMATTER_CLASS": "loyalty.api.refusing.Formatter",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Merchant loyalty",
    "DESCRIPTION": (BASE_DIR / "loyalty_site" / "api_description.md").read_text(),
    "VERSION": API_VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "tryItOutEnabled": False},
    "COMPONENT_SPLIT_REQUEST": False,
    "COMPONENT_SPLIT_PATCH": False,  # bodies say by themselves which of their fields may be left out
    "POSTPROCESSING_HOOKS": [
        "loyalty.api.schema.share_problems",
    ],
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "TAGS": [
        {"name": "Loyalty - Store", "description": "What a till does, with the key of its store."},
        {"name": "Loyalty - Admin", "description": "What a back office does, with the key of a user or a login."},
    ],
}
# Requests a minute of one store, one user of the admin API, one pass, or all phones together. 0: no limit.
LOYALTY_THROTTLES = {
    "": 0,
    "lookup": env.int("LOYALTY_THROTTLE_LOOKUP", default=120),
    "enrol": env.int("LOYALTY_THROTTLE_ENROL", default=60),
    "earn": env.int("LOYALTY_THROTTLE_EARN", default=60),
    "stamps": env.int("LOYALTY_THROTTLE_STAMPS", default=60),
    "redeem": env.int("LOYALTY_THROTTLE_REDEEM", default=30),
    "reverse": env.int("LOYALTY_THROTTLE_REVERSE", default=20),
    "staff_sessions": env.int("LOYALTY_THROTTLE_STAFF_SESSIONS", default=10),
    "admin": env.int("LOYALTY_THROTTLE_ADMIN", default=600),
    "wallet_registrations": env.int("LOYALTY_THROTTLE_WALLET_REGISTRATIONS", default=120),
    "wallet_log": env.int("LOYALTY_THROTTLE_WALLET_LOG", default=30),
}
LOYALTY_IMPORT_MAX_BYTES = env.int("LOYALTY_IMPORT_MAX_BYTES", default=10_000_000)
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": CELERY_BROKER_URL,
        "KEY_PREFIX": "loyalty",
        # Only throttles live there, and a till does not wait for them.
        "OPTIONS": {"socket_timeout": 0.02, "socket_connect_timeout": 0.02},
    }
}

# --- wallet. A platform without an active credential is switched off.
# Fernet keys, the newest first: what opens credentials that are kept in the database.
WALLET_ENCRYPTION_KEYS = env.list("WALLET_ENCRYPTION_KEYS", default=[])
# number:secret pairs, the newest first. A pass keeps its number for life, so a pair may go only with its last pass.
WALLET_TOKEN_KEYS = env.list("WALLET_TOKEN_KEYS", default=["1:for-development-only"] if DEVELOPMENT else [])
WALLET_LINK_DAYS = env.int("WALLET_LINK_DAYS", default=90)
WALLET_SYNC_SECONDS = env.int("WALLET_SYNC_SECONDS", default=50)
APPLE_PASS_TYPE_ID = env.str("APPLE_PASS_TYPE_ID", default="")
APPLE_TEAM_ID = env.str("APPLE_TEAM_ID", default="")
APPLE_PUSH_URL = env.address("APPLE_PUSH_URL", default="https://api.push.apple.com")
APPLE_PUSH_CA_FILE = env.str("APPLE_PUSH_CA_FILE", default="")  # empty: the authorities that this machine trusts
APPLE_PUSH_TYPE = env.str("APPLE_PUSH_TYPE", default="background")
APPLE_PUSH_PRIORITY = env.int("APPLE_PUSH_PRIORITY", default=5)
GOOGLE_ISSUER_ID = env.str("GOOGLE_ISSUER_ID", default="")
GOOGLE_SERVICE_ACCOUNT = env.str("GOOGLE_SERVICE_ACCOUNT", default="")
GOOGLE_WALLET_URL = env.address("GOOGLE_WALLET_URL", default="https://walletobjects.googleapis.com/walletobjects/v1")
GOOGLE_TOKEN_URL = env.address("GOOGLE_TOKEN_URL", default="https://oauth2.googleapis.com/token")
GOOGLE_SAVE_URL = env.address("GOOGLE_SAVE_URL", default="https://pay.google.com/gp/v/save")
GOOGLE_KEYS_URL = env.address("GOOGLE_KEYS_URL", default="https://pay.google.com/gp/m/issuer/keys")
# Google tells by callbacks who keeps a pass; without them every pass whose link was opened counts as kept.
GOOGLE_CALLBACKS = env.bool("GOOGLE_CALLBACKS", default=PUBLIC_URL.startswith("https://"))
GOOGLE_REQUESTS_PER_SECOND = env.int("GOOGLE_REQUESTS_PER_SECOND", default=18)  # Google allows 20

# --- sign-in and headers
SELF = "'self'"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": [SELF],
        "frame-ancestors": ["'none'"],
    }
}
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
# The first is for passwords of users; PINs ask for the second by name.
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.ScryptPasswordHasher",
    "django.contrib.auth.hashers.Argon2PasswordHasher",
]
# Mixed into every PIN before it is hashed: six digits in a stolen database are guessed in a day otherwise.
PIN_PEPPER = env.secret("PIN_PEPPER", default="for-development-only" if DEVELOPMENT else "")
LOYALTY_STAFF_SESSION_HOURS = env.int("LOYALTY_STAFF_SESSION_HOURS", default=12)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PUBLIC_URL.startswith("https://")
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=PUBLIC_URL.startswith("https://"))
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=31536000 if PUBLIC_URL.startswith("https://") else 0)
# Both bind hosts that are not this installation's, for as long as browsers remember.
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.bool("SECURE_HSTS_INCLUDE_SUBDOMAINS", default=False)
SECURE_HSTS_PRELOAD = env.bool("SECURE_HSTS_PRELOAD", default=False)
BEHIND_PROXY = env.bool("BEHIND_PROXY", default=False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]  # asked inside the network
X_FRAME_OPTIONS = "DENY"

# --- languages, time, files
LANGUAGE_CODE = "en"
USE_I18N = True
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
WHITENOISE_USE_FINDERS = DEVELOPMENT
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

# --- logs
LOG_FORMAT = env.choice("LOG_FORMAT", default="console" if DEVELOPMENT else "json", among=("json", "console"))
LOGGING_CONFIG = None
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
logging_config(form=LOG_FORMAT, level=env.choice("LOG_LEVEL", default="INFO", among=LOG_LEVELS))
DJANGO_STRUCTLOG_CELERY_ENABLED = True
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG  # the start of a request names the browser

# --- metrics
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")  # empty: there is no /metrics
# prometheus_client reads it from the environment, and takes an empty one for the folder that we are in.
PROMETHEUS_MULTIPROC_DIR = env.str("PROMETHEUS_MULTIPROC_DIR", default="") or None
if PROMETHEUS_MULTIPROC_DIR is None:
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

# --- who else is told
# Empty: unexpected errors are in the log alone.
SENTRY_DSN = env.address("SENTRY_DSN", default="", like="https://key@host/1")
# task=address pairs: an address outside that is asked for each time that the task did its work.
JOB_PING_URLS = env.list("JOB_PING_URLS", default=[])

# They ask for SECURE_HSTS_INCLUDE_SUBDOMAINS and ..._PRELOAD, which only who owns the whole domain can decide.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
