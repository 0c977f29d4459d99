"""Log events: one JSON object a line in production, readable columns in development.

Every event carries `ts`, `level` and `event`; requests and tasks add `request_id`.
"""

import logging
import logging.config
import re

import structlog

# The address of a link lets whoever knows it have the card, and a phone's name is all that a phone is asked for.
SECRET_IN_ADDRESS = re.compile(r"(/wallet/(?:apple|google)/get/|/wallet/apple/v1/devices/)[^/\s?\"]+")


def without_secret_addresses(
    logger: structlog.typing.WrappedLogger, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Whatever names an address of ours names it without what opens it."""
    for name, value in event.items():
        if isinstance(value, str) and "/wallet/" in value:
            event[name] = SECRET_IN_ADDRESS.sub(r"\1...", value)
    return event


def as_warning(record: logging.LogRecord) -> bool:
    """A filter of the standard library: a sentence at the level warning, without a traceback."""
    record.levelno, record.levelname = logging.WARNING, "WARNING"
    record.exc_info = record.exc_text = None
    return logging.getLogger(record.name).isEnabledFor(record.levelno)


SHARED_PROCESSORS: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
    without_secret_addresses,
]


def logging_config(*, form: str, level: str) -> None:
    """Send structlog events and the standard library's records through one formatter to stderr."""
    renderer: structlog.typing.Processor
    if form == "json":
        renderer = structlog.processors.JSONRenderer()
        traceback: list[structlog.typing.Processor] = [structlog.processors.format_exc_info]
    else:
        # Without what local variables held: that names customers, and fills a screen for each frame.
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=False, timestamp_key="ts", exception_formatter=plain)
        traceback = []
    structlog.configure(
        processors=[*SHARED_PROCESSORS, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "structured": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *traceback, renderer],
                    "foreign_pre_chain": SHARED_PROCESSORS,
                }
            },
            "filters": {"as_warning": {"()": lambda: as_warning}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
            "root": {"handlers": ["stderr"], "level": level},
            "loggers": {
                "celery.app.trace": {"level": "WARNING"},
                # They name every address that is called, and Apple's have a phone's push token in them.
                "httpx2": {"level": "WARNING"},
                "httpcore2": {"level": "WARNING"},
                "hpack": {"level": "WARNING"},
                # Scanners ask by names of others all day: no error of ours, and where it was raised tells nothing.
                "django.security.DisallowedHost": {"filters": ["as_warning"]},
            },
        }
    )
