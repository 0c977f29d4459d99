from playwright.sync_api import Page, expect


def test_the_description_of_the_apis_works_without_the_internet_under_the_strict_policy(page: Page, live_server):
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)

    answer = page.goto("/docs")

    assert answer
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    page.get_by_text("Give points for a purchase", exact=True).click(timeout=60_000)
    expect(page.get_by_text("Idempotency-Key").first).to_be_visible()
    expect(page.get_by_text("duplicate_receipt").first).to_be_visible()
    expect(page.get_by_text("Loyalty - Admin").first).to_be_visible()
    assert [url for url in asked if not url.startswith((live_server.url, "data:"))] == []
    assert complaints == []
