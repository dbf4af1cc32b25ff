"""Check the installed packages for known vulnerabilities: make audit.

Exit status 0 means that every package was looked up and none has a known one, 1 that something is known, and 2 that
the check could not be made, in whole or in part: silence of the data base is no pass.
"""

import json
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

CLEAN, KNOWN, UNCHECKED = 0, 1, 2


def installed() -> list[str]:
    """Return what is installed beside this Python as ``name==version``, without birdclf itself."""
    found = {dist.metadata["Name"]: dist.version for dist in distributions()}
    # The data base knows releases, not builds of them such as 2.11.0+cpu.
    return sorted(f"{name}=={version.partition('+')[0]}" for name, version in found.items() if name != "birdclf")


def verdict(packages: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Return the exit status and what to say of packages as pip-audit lists them."""
    looked_up = [package for package in packages if "vulns" in package]
    skipped = [package for package in packages if "vulns" not in package]
    said = []
    for package in looked_up:
        for fault in package["vulns"]:
            fixed = ", ".join(fault["fix_versions"]) or "no release"
            said.append(f"{package['name']} {package['version']}: {fault['id']}; fixed in {fixed}")
    known = len(said)
    if skipped:
        names = ", ".join(package["name"] for package in skipped[:5])
        said.append(f"{len(skipped)} of {len(packages)} packages could not be looked up: {names}, ...")
        said.append(f"  {skipped[0].get('skip_reason', 'no reason given')}")
    if known:
        return KNOWN, [*said, f"known vulnerabilities: {known}. Update the packages, and constraints.txt with them."]
    if skipped or not looked_up:
        return UNCHECKED, [*said, "THE CHECK WAS NOT MADE: the data base did not answer. This is no pass."]
    return CLEAN, [f"{len(looked_up)} packages, no known vulnerability"]


def main() -> int:
    """Ask for what is installed, and print what is known."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "installed.txt")
        listed.write_text("\n".join(installed()))
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(listed), "--no-deps", "--disable-pip"]
        command += ["--format", "json", "--progress-spinner", "off"]
        done = subprocess.run(command, capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):  # it stops with a stack trace where there is no network
        reason = next(iter(done.stderr.strip().splitlines()[-1:]), "it said nothing")
        print(f"pip-audit ended with status {done.returncode}: {reason[:300]}")
        packages = []
    status, said = verdict(packages)
    print("\n".join(said))
    return status


if __name__ == "__main__":
    sys.exit(main())
