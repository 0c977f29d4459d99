"""Programs that are no Python packages. Without it a test skips, or fails where everything must be there."""

import os
import shutil

import pytest

PACKAGES = {
    "promtool": "prometheus",
    "systemd-analyze": "systemd",
    "prometheus": "prometheus",
    "amtool": "prometheus-alertmanager",
    "nginx": "nginx-light",
}
ALSO = ("/usr/sbin", "/usr/local/sbin")  # which are not on the PATH of everybody


def tool(name: str) -> str:
    """The path of a program."""
    found = shutil.which(name, path=os.pathsep.join((os.environ["PATH"], *ALSO)))
    if found is None:
        reason = f"{name} is not installed: apt-get install -y --no-install-recommends {PACKAGES[name]}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found
