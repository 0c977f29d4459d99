"""Every answer of the production configuration carries the headers that browsers are to obey, refusals included."""

import subprocess
import sys
from typing import Any

import pytest

from tests.fakes.celery_process import ROOT, environment
from tests.fakes.web_process import web

PRODUCTION: dict[str, Any] = {
    "SECRET_KEY": "kR7-not-used-anywhere-else-3vQ9-0123456789-tUwXyZ-abcdef",
    "PIN_PEPPER": "pV2-not-used-anywhere-else-8sD1-0123456789-tUwXyZ-abcdef",
    "ALLOWED_HOSTS": "points.bakery.test,127.0.0.1",
    "PUBLIC_URL": "https://points.bakery.test",
    "BEHIND_PROXY": "true",
    "METRICS_TOKEN": "mT5-0123456789-abcdefghijklmnop",
    "EMAIL_URL": "smtp+tls://loyalty:secret@mail.bakery.test:587",
    "DEFAULT_FROM_EMAIL": "points@bakery.test",
    "DEVELOPMENT": "false",
}
THROUGH_PROXY = {"Host": "points.bakery.test", "X-Forwarded-Proto": "https"}
PATHS = {
    "/healthz": 200,
    "/readyz": 200,
    "/metrics": 401,
    "/": 302,
    "/admin/": 302,
    "/admin/login/": 200,
    "/docs": 200,
    "/docs/openapi.yaml": 200,
    "/docs/problems": 200,
    "/nothing/here": 404,
    "/api/v1/nothing": 404,
    "/api/v1/store/loyalty/cards/1": 401,
    "/wallet/apple/get/none": 404,
}


def assert_safe(headers, *, is_secure=True):
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "unsafe-eval" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    if is_secure:
        assert headers["Strict-Transport-Security"] == "max-age=31536000"


def header_for_https(**variables: str) -> str:
    ask = """
import django
django.setup()
from django.test import Client
from django.conf import settings
settings.WHITENOISE_AUTOREFRESH = True
answer = Client().get("/healthz", secure=True, headers={"host": "points.bakery.test"})
print(answer.headers.get("Strict-Transport-Security"))
"""
    done = subprocess.run(
        [sys.executable, "-c", ask],
        cwd=ROOT,
        env=environment(**PRODUCTION, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("variables", "header"),
    [
        ({"SECURE_HSTS_INCLUDE_SUBDOMAINS": "true"}, "max-age=31536000; includeSubDomains"),
        ({"SECURE_HSTS_PRELOAD": "true"}, "max-age=31536000; preload"),
        ({"SECURE_HSTS_PRELOAD": "true", "SECURE_HSTS_SECONDS": "0"}, "None"),
    ],
)
def test_other_hosts_of_the_domain_are_bound_only_if_somebody_says_so(variables, header):
    assert header_for_https(**variables) == header


@pytest.mark.django_db(transaction=True)
class TestTheRealWebServer:
    def test_sends_them_with_every_answer(self, tmp_path):
        with web(tmp_path, workers=1, **PRODUCTION) as site:
            for path, status in PATHS.items():
                answer = site.ask("GET", path, headers=THROUGH_PROXY)
                assert (path, answer.status) == (path, status)
                assert_safe(answer.headers)
            for method in ("POST", "DELETE"):
                assert_safe(site.ask(method, "/healthz", headers=THROUGH_PROXY).headers)
            redirect = site.ask("GET", "/admin/", headers={"Host": "points.bakery.test"})
            assert (redirect.status, redirect.headers["Location"]) == (301, "https://points.bakery.test/admin/")
            assert_safe(redirect.headers, is_secure=False)
            stranger = site.ask("GET", "/admin/", headers={**THROUGH_PROXY, "Host": "evil.test"})
            assert stranger.status == 400
            assert_safe(stranger.headers)

    def test_believes_nobody_about_https_unless_it_stands_behind_a_proxy(self, tmp_path):
        with web(tmp_path, workers=1, **{**PRODUCTION, "BEHIND_PROXY": "false"}) as site:
            for header in ({"X-Forwarded-Proto": "https"}, {"X-Forwarded-Ssl": "on"}):
                answer = site.ask("GET", "/admin/login/", headers={"Host": "points.bakery.test", **header})
                assert answer.status == 301


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/fails", "/api/v1/fails"])
def test_an_error_of_ours_has_them_too(client, settings, path):
    settings.ROOT_URLCONF = "tests.house.failing_urls"
    settings.SECURE_HSTS_SECONDS = 31536000
    settings.WHITENOISE_AUTOREFRESH = True
    client.raise_request_exception = False

    answer = client.get(path, secure=True)

    assert answer.status_code == 500
    assert_safe(answer.headers)


@pytest.mark.django_db
def test_static_files_have_them_too(client, settings):
    settings.WHITENOISE_AUTOREFRESH = settings.WHITENOISE_USE_FINDERS = True

    answer = client.get("/static/loyalty_site/icon.svg")
    assert b"".join(answer.streaming_content).startswith(b"<svg")
    answer.close()

    assert answer.status_code == 200
    assert_safe(answer.headers, is_secure=False)


@pytest.mark.django_db(transaction=True)
def test_the_production_configuration_passes_the_check_for_deployment():
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env=environment(**PRODUCTION),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "System check identified no issues (2 silenced).\n"), done.stderr
