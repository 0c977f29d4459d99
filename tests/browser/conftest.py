"""A real browser on a real server. Without a browser these tests skip, but in CI they fail."""

import os
import shutil
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, expect, sync_playwright

INSTALL = "No Chromium was found. Install it: apt-get install -y --no-install-recommends chromium, or set CHROMIUM."
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PASSWORD = "correct horse battery staple"


def chromium() -> str | None:
    """Where the browser is; CHROMIUM names it, and an empty CHROMIUM says that there is none."""
    if "CHROMIUM" in os.environ:
        return os.environ["CHROMIUM"] or None
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = chromium()
    if executable is None:
        if os.environ.get("CI"):
            pytest.fail(INSTALL)
        pytest.skip(INSTALL)
    # Playwright runs an event loop in this thread, in which Django would refuse to use its database. It ends with the
    # module: no other loop can run beside it, and the wallet's tests need theirs.
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        started = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, live_server) -> Iterator[Page]:
    """A page whose errors fail the test."""
    context = browser.new_context(base_url=live_server.url, viewport={"width": 1360, "height": 900})
    context.set_default_timeout(15_000)
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("response", lambda answer: errors.append(answer.url) if answer.status >= 400 else None)
    yield opened
    context.close()
    assert errors == []


@pytest.fixture
def signed_in(page: Page, transactional_db) -> Page:
    """A page on which a platform admin has just signed in."""
    User.objects.create_superuser("ana", "ana@example.com", PASSWORD)
    page.goto("/admin/")
    page.get_by_label("Username").fill("ana")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="How it stands")).to_be_visible()
    return page
