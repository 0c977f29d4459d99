"""The nginx of docs/deployment.md, run as the page has it: what reaches the web server, and what does not."""

import http.client
import http.server
import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.celery_process import wait_until
from tests.house.installation import free_port
from tests.house.test_deployment_page import PAGE
from tests.house.tools import tool

PROXY = PAGE.partition("## The proxy")[2].partition("\n## ")[0]
[SITE] = re.findall(r"^```nginx\n(.*?)^```", PROXY, re.MULTILINE | re.DOTALL)
NAME = "points.example.com"
AROUND = """
daemon off;
user {user} {group};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {site}
}}
"""


class Echo(http.server.BaseHTTPRequestHandler):
    """A web server that answers with the headers that it got."""

    def do_GET(self) -> None:
        content = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def web_server() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Answer:
    status: int
    location: str | None
    content: bytes


@dataclass(frozen=True)
class Proxy:
    """Its ports, and how it is asked."""

    plain: int
    secure: int

    def ask(self, path: str, *, host: str = NAME, **headers: str) -> Answer:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with closing(http.client.HTTPConnection("127.0.0.1", self.secure, timeout=20)) as connection:
            connection.connect()
            connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
            return _answer(connection, path, host=host, **headers)

    def ask_plainly(self, path: str, *, host: str = NAME) -> Answer:
        with closing(http.client.HTTPConnection("127.0.0.1", self.plain, timeout=20)) as connection:
            return _answer(connection, path, host=host)


def _answer(connection: http.client.HTTPConnection, path: str, *, host: str, **headers: str) -> Answer:
    connection.request("GET", path, headers={"Host": host, **headers})
    answer = connection.getresponse()
    return Answer(answer.status, answer.headers["Location"], answer.read())


def make_certificate(folder: Path) -> None:
    command = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={NAME}"
    files = ["-keyout", "privkey.pem", "-out", "fullchain.pem"]
    subprocess.run([*command.split(), *files], cwd=folder, capture_output=True, timeout=60, check=True)


def here(folder: Path, places: dict[str, str]) -> Path:
    site = SITE if has_ipv6() else re.sub(r"^ *listen \[::\].*\n", "", SITE, flags=re.MULTILINE)
    for there, place in places.items():
        assert there in SITE
        site = site.replace(there, place)
    config = folder / "nginx.conf"
    config.write_text(AROUND.format(folder=folder, site=site, user=folder.owner(), group=folder.group()))
    return config


@pytest.fixture
def proxy(tmp_path) -> Iterator[Proxy]:
    nginx = tool("nginx")
    make_certificate(tmp_path)
    challenges = tmp_path / "html" / ".well-known" / "acme-challenge"
    challenges.mkdir(parents=True)
    (challenges / "one").write_text("of certbot")
    ports = Proxy(free_port(), free_port())
    with web_server() as port:
        places = {
            f"/etc/letsencrypt/live/{NAME}": str(tmp_path),
            "/var/www/html": str(tmp_path / "html"),
            "127.0.0.1:8000": f"127.0.0.1:{port}",
            "listen 443": f"listen {ports.secure}",
            "listen 80": f"listen {ports.plain}",
            "[::]:443": f"[::]:{ports.secure}",
            "[::]:80": f"[::]:{ports.plain}",
        }
        command = [nginx, "-p", tmp_path, "-c", here(tmp_path, places), "-e", tmp_path / "error.log"]
        tried = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=60, check=False)
        assert tried.returncode == 0, tried.stderr
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: answers(ports.plain) and answers(ports.secure), seconds=20)
            yield ports
        finally:
            process.terminate()
            process.wait(20)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_web_server_hears_who_asks_and_not_what_they_claim(proxy):
    forged = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "http"}
    heard = json.loads(proxy.ask("/card/1", **forged).content)

    assert (heard["x-forwarded-for"], heard["x-forwarded-proto"]) == ("127.0.0.1", "https")
    assert heard["host"] == NAME


def test_what_the_world_need_not_see_is_closed_to_it(proxy):
    found = {path: proxy.ask(path).status for path in ("/", "/metrics", "/readyz", "/admin/", "/%61dmin/login/")}

    assert found == {"/": 200, "/metrics": 404, "/readyz": 404, "/admin/": 403, "/%61dmin/login/": 403}


def test_plain_http_leads_to_https_except_for_the_authority_of_the_certificate(proxy):
    sent_on = proxy.ask_plainly("/card/1?q=2")
    challenge = proxy.ask_plainly("/.well-known/acme-challenge/one")

    assert (sent_on.status, sent_on.location) == (301, f"https://{NAME}/card/1?q=2")
    assert (challenge.status, challenge.content) == (200, b"of certbot")


def test_who_asks_by_another_name_gets_no_answer(proxy):
    with pytest.raises(http.client.RemoteDisconnected):
        proxy.ask_plainly("/", host="203.0.113.7")
    with pytest.raises(ssl.SSLError):
        proxy.ask("/", host="evil.test")


def test_the_page_says_how_the_site_is_switched_on():
    [steps] = re.findall(r"\n\n```\n(.*?)^```", PROXY, re.MULTILINE | re.DOTALL)
    wanted = ["certbot certonly", "ln -s ../sites-available/loyalty", "rm /etc/nginx/sites-enabled/default", "nginx -t"]

    assert [line for line in wanted if line not in steps] == []
    assert steps.index("certbot certonly") < steps.index("ln -s") < steps.index("nginx -t")
    assert "`/etc/nginx/sites-available/loyalty`" in PROXY


def test_the_site_listens_for_both_kinds_of_addresses():
    listens = re.findall(r"listen (\[::\]:)?(\d+)( ssl)?( default_server)?;", SITE)
    six, four = ([rest for is_six, *rest in listens if bool(is_six) == wanted] for wanted in (True, False))

    assert six == four
    assert len(six) == 4


@pytest.mark.parametrize(
    "line",
    [
        "proxy_set_header Host $host;",
        "proxy_set_header X-Forwarded-Proto $scheme;",
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "location = /metrics { return 404; }",
        "deny all;",
        "ssl_reject_handshake on;",
        "return 444;",
    ],
)
def test_the_site_has_what_the_platform_relies_on(line):
    """Where nginx is not installed too."""
    assert line in SITE
