import pytest
import structlog
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from loyalty_site import draining


@pytest.fixture(autouse=True)
def _no_collected_static_files(settings):
    settings.WHITENOISE_AUTOREFRESH = True


def test_healthz_answers_without_a_database(client):
    answer = client.get("/healthz")

    assert (answer.status_code, answer.content, answer["Content-Type"]) == (200, b"ok\n", "text/plain")


@pytest.mark.django_db
def test_readyz_is_ready_when_all_migrations_are_applied(client):
    answer = client.get("/readyz")

    assert (answer.status_code, answer.json()) == (200, {"ready": True})


@pytest.mark.django_db
def test_readyz_names_missing_migrations(client):
    MigrationRecorder.Migration.objects.filter(app="loyalty_site", name="0002_install_schedules").delete()

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json() == {
        "ready": False,
        "reason": "migrations are missing",
        "missing": ["loyalty_site.0002_install_schedules"],
    }


def test_readyz_says_that_the_server_is_about_to_end(client, monkeypatch):
    monkeypatch.setattr(draining, "_flag", b"\x01")

    answer = client.get("/readyz")

    assert (answer.status_code, answer.json()["reason"]) == (503, "this server is about to end")
    assert client.get("/healthz").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_readyz_says_when_the_database_is_away_and_when_it_is_back(client, monkeypatch):
    connection.close()
    with monkeypatch.context() as away:
        away.setitem(connection.settings_dict, "PORT", 1)
        with structlog.testing.capture_logs() as logs:
            answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "reason": "the database does not answer"}
    [log] = [log for log in logs if log["event"] == "loyalty_site.database_unreachable"]
    assert "port 1 failed: Connection refused" in log["reason"]
    assert client.get("/readyz").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_readyz_says_when_its_connection_was_cut(client):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        connection.connection.close()

    assert client.get("/readyz").status_code == 503
    connection.close()


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
class TestBothEndpoints:
    def test_answer_probes_that_ask_for_the_head_only(self, client, path):
        assert client.head(path).status_code == 200

    def test_refuse_writes(self, client, path):
        assert client.post(path).status_code == 405

    def test_are_not_sent_to_https(self, client, path, settings):
        settings.SECURE_SSL_REDIRECT = True

        assert client.get(path).status_code == 200
        assert client.get("/admin/login/").status_code == 301

    def test_need_a_host_name_that_is_allowed(self, client, path, settings):
        settings.ALLOWED_HOSTS = ["shop.example.org"]

        assert client.get(path, headers={"host": "10.0.0.7"}).status_code == 400
        assert client.get(path, headers={"host": "shop.example.org"}).status_code == 200
