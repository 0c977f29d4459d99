"""Passes built, served and told of, beside bare loops that do the dear part alone: `make bench-wallet`.

Each figure is the median of five rounds, taken in turn with its peer. Ends with exit code 1 below a goal.
"""

import argparse
import asyncio
import os
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
os.environ["LOG_LEVEL"] = "ERROR"

import django

django.setup()

import httpx2
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder
from django.conf import settings
from django.core.management import call_command

from tests.factories import make_card, make_merchant
from tests.fakes.apns import FakeApns
from tests.fakes.pki import PASS_TYPE, TEAM, shared_pki
from tests.fakes.web_process import web
from tests.wallet.credentials import make_apple_credential, make_intermediate, shared_identity
from tests.wallet.rows import make_pass
from tests.wallet.sync_process import wallet_environment
from wallet.apple.pushing import PushConnection
from wallet.apple.signing import Signer
from wallet.models import Pass
from wallet.sealing import authentication_token
from wallet.services import opening
from wallet.services.rendering import apple_package, newest_face

BUILT_GOAL, SERVED_GOAL, PUSHED_GOAL, RATIO_GOAL = 1000, 200, 200, 0.6
LATENCY_SECONDS = 0.05
AT_ONCE = 50


def prepare() -> Pass:
    call_command("migrate", verbosity=0)
    settings.WALLET_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    settings.WALLET_TOKEN_KEYS = ["1:bench"]
    settings.APPLE_PASS_TYPE_ID, settings.APPLE_TEAM_ID = PASS_TYPE, TEAM
    make_apple_credential(shared_identity(), issuer=make_intermediate(shared_pki()))
    wallet_pass = make_pass(make_card(make_merchant(), points=100, first_name="Ana"), token_key_version=1)
    return Pass.objects.with_card().get(pk=wallet_pass.pk)


def built(wallet_pass: Pass, signer: Signer, count: int) -> float:
    """Passes for a CPU second: rendering, zipping and signing."""
    face = newest_face(wallet_pass)
    return per_cpu_second(lambda: apple_package(wallet_pass, face, signer), count)


def signed(count: int) -> float:
    """Signatures for a CPU second, of a manifest as long as a pass's."""
    identity, manifest = shared_identity(), b"x" * 700
    intermediate = shared_pki().intermediate.certificate
    options = [PKCS7Options.DetachedSignature, PKCS7Options.Binary]

    def sign() -> None:
        builder = PKCS7SignatureBuilder().set_data(manifest)
        builder = builder.add_signer(identity.certificate, identity.key, hashes.SHA256())
        builder.add_certificate(intermediate).sign(Encoding.DER, options)

    return per_cpu_second(sign, count)


def per_cpu_second(work: Callable[[], object], count: int) -> float:
    work()
    began = time.process_time()
    for _ in range(count):
        work()
    return count / (time.process_time() - began)


def served(wallet_pass: Pass, count: int) -> tuple[float, float]:
    """Passes over HTTP for a CPU second of the server's processes, and for a second."""
    token = authentication_token(wallet_pass.identifier, key_version=1)
    path = f"/wallet/apple/v1/passes/{PASS_TYPE}/{wallet_pass.identifier}"
    headers = {"Authorization": f"ApplePass {token}"}
    with (
        tempfile.TemporaryDirectory() as folder,
        web(Path(folder), workers=1, **wallet_environment()) as server,
        httpx2.Client(base_url=server.address, headers=headers) as client,
    ):
        for _ in range(20):
            assert client.get(path).status_code == 200
        cpu, began = cpu_seconds(server.workers()), time.perf_counter()
        for _ in range(count):
            assert client.get(path).headers["Content-Type"] == "application/vnd.apple.pkpass"
        seconds = time.perf_counter() - began
        return count / (cpu_seconds(server.workers()) - cpu), count / seconds


def cpu_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def pushed(apns: FakeApns, signer: Signer, count: int) -> float:
    """Pushes a second by the product's connection."""
    connection = PushConnection(
        url=apns.url,
        ca_file=apns.ca_file,
        signer=signer,
        topic=PASS_TYPE,
        push_type="background",
        priority=5,
    )
    async with connection as apple:
        assert (await apple.push("ab" * 32)).is_done
        return await rate(lambda: apple.push("ab" * 32), count)


async def posted(apns: FakeApns, signer: Signer, count: int) -> float:
    """Posts a second by a bare client of HTTP/2 over one connection."""
    context = ssl.create_default_context(cafile=apns.ca_file)
    signer.identify(context)
    headers = {"apns-topic": PASS_TYPE, "apns-push-type": "background", "apns-priority": "5"}
    limits = httpx2.Limits(max_connections=1)
    async with httpx2.AsyncClient(
        http1=False, http2=True, verify=context, headers=headers, limits=limits, base_url=apns.url
    ) as client:
        await client.post(f"/3/device/{'ab' * 32}", content=b"{}")
        return await rate(lambda: client.post(f"/3/device/{'ab' * 32}", content=b"{}"), count)


async def rate(call: Callable[[], object], count: int) -> float:
    room = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with room:
            await call()  # type: ignore[misc]

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(count)))
    return count / (time.perf_counter() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1000)
    arguments = parser.parse_args()
    wallet_pass, signer = prepare(), opening.signer(PASS_TYPE)
    names = ("built", "signed", "served", "over HTTP", "pushed", "posted")
    found: dict[str, list[float]] = {name: [] for name in names}
    with FakeApns(shared_pki(), delay_seconds=LATENCY_SECONDS) as apns:
        for _ in range(arguments.rounds):
            found["built"].append(built(wallet_pass, signer, arguments.count))
            found["signed"].append(signed(arguments.count))
            by_cpu, by_second = served(wallet_pass, arguments.count)
            found["served"].append(by_cpu)
            found["over HTTP"].append(by_second)
            before = apns.connections
            found["pushed"].append(asyncio.run(pushed(apns, signer, arguments.count)))
            connections = apns.connections - before
            found["posted"].append(asyncio.run(posted(apns, signer, arguments.count)))
    medians = {name: statistics.median(values) for name, values in found.items()}
    print(f"built      {medians['built']:7,.0f} passes for a CPU second (goal: {BUILT_GOAL:,})")
    print(f"signed     {medians['signed']:7,.0f} manifests for a CPU second by a bare loop")
    print(f"served     {medians['served']:7,.0f} passes for a CPU second of the server (goal: {SERVED_GOAL})")
    print(f"           {medians['over HTTP']:7,.0f} a second to one client after another")
    print(f"pushed     {medians['pushed']:7,.0f} a second at 50 ms over {connections} connection (goal: {PUSHED_GOAL})")
    print(f"posted     {medians['posted']:7,.0f} a second by a bare client")
    ratios = medians["built"] / medians["signed"], medians["pushed"] / medians["posted"]
    print(f"built / signed {ratios[0]:.2f}, pushed / posted {ratios[1]:.2f} (goal: {RATIO_GOAL})")
    print(f"load average {os.getloadavg()[0]:.1f}")
    reached = (
        medians["built"] >= BUILT_GOAL
        and medians["served"] >= SERVED_GOAL
        and medians["pushed"] >= PUSHED_GOAL
        and ratios[1] >= RATIO_GOAL
        and connections <= 2
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
