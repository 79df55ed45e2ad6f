"""The dashboard's own checks, and its built pages beside its source: ``make web`` builds, ``make check`` compares.

What it does: installs what ``web/package-lock.json`` pins, then lints, checks types, tests, builds and compares with the committed bundle.
What it does not: look at pages in a browser. Where npm is missing or too old nothing is checked, and the reason is said.
"""

import argparse
import filecmp
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "web"
BUNDLE = ROOT / "src" / "luthier" / "api" / "static"
NODE_NEEDED = (20, 19)
EAGER_SCRIPT_BYTES = 100 * 1024
STYLE_BYTES = 30 * 1024
TWIN_BYTES = 600_000
"""Of the page of one job without its data: with 400 kB of data it stays below a megabyte."""
_IMPORT = re.compile(r"""(?:\bfrom|\bimport)\s*["']\./([\w.-]+\.js)["']""")


def missing_tool() -> str | None:
    """Why the source cannot be built here, or None."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        return "npm is not installed"
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    version = tuple(int(part) for part in said.lstrip("v").split(".")[:2])
    wanted = ".".join(map(str, NODE_NEEDED))
    return None if version >= NODE_NEEDED else f"node is {said}, and {wanted} or newer is needed"


def npm(*args: str, out: Path | None = None) -> None:
    """Run npm in ``web/``; raises CalledProcessError when it fails."""
    environment = os.environ | ({"LUTHIER_WEB_OUT": str(out)} if out else {})
    subprocess.run(["npm", *args], cwd=WEB, env=environment, check=True)


def install() -> None:
    """What the lock file pins, once per lock file."""
    stamp, wanted = WEB / "node_modules" / ".luthier-lock", hashlib.sha256((WEB / "package-lock.json").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        npm("ci", "--silent")
        stamp.write_text(wanted, encoding="utf-8")


def build(out: Path) -> None:
    """Both builds into that folder, nothing else left in it."""
    npm("run", "--silent", "build", out=out)


def differences(ours: Path, fresh: Path) -> list[str]:
    """Files that only one folder has or that differ, by name."""
    names = {p.relative_to(root).as_posix() for root in (ours, fresh) for p in root.rglob("*") if p.is_file()}
    return sorted(
        n for n in names if not ((ours / n).is_file() and (fresh / n).is_file() and filecmp.cmp(ours / n, fresh / n, shallow=False))
    )


def eager_scripts(bundle: Path) -> list[Path]:
    """The scripts that the first page needs: those of its HTML and what they import at once."""
    page = (bundle / "index.html").read_text(encoding="utf-8")
    pending = re.findall(r'(?:src|href)="/ui/assets/([\w.-]+\.js)"', page)
    found: dict[str, Path] = {}
    while pending:
        name = pending.pop()
        if name not in found:
            found[name] = bundle / "assets" / name
            pending += _IMPORT.findall(found[name].read_text(encoding="utf-8"))
    return list(found.values())


def packed_bytes(files: list[Path]) -> int:
    """Their size as a browser gets them."""
    return sum(len(gzip.compress(path.read_bytes(), 9)) for path in files)


def over_budget(bundle: Path) -> list[str]:
    """What is larger than it may be, in words."""
    script, style = packed_bytes(eager_scripts(bundle)), packed_bytes(sorted(bundle.rglob("*.css")))
    twin = (bundle / "twin.html").stat().st_size
    rules = (
        (script, EAGER_SCRIPT_BYTES, "eager JavaScript, packed"),
        (style, STYLE_BYTES, "all style sheets, packed"),
        (twin, TWIN_BYTES, "the page of one job, without data"),
    )
    return [f"{what}: {size:,} bytes, {bound:,} allowed" for size, bound, what in rules if size > bound]


def check() -> list[str]:
    """Everything; the faults in words."""
    install()
    for script in ("lint", "check", "test"):
        npm("run", "--silent", script)
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        faults = over_budget(Path(folder))
        if not BUNDLE.is_dir():
            return [*faults, "no built dashboard is committed: run `make web` and commit src/luthier/api/static"]
        lagging = differences(BUNDLE, Path(folder))
    if lagging:
        faults.append(f"the committed dashboard is not what web/ builds to ({', '.join(lagging[:5])}): run `make web` and commit it")
    return faults


def main() -> None:
    """Build in place, or with ``--check`` check and compare."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true", help="lint, types, tests, budgets, and the committed bundle beside a fresh one")
    options = arguments.parse_args()
    reason = missing_tool()
    if reason is not None:
        print(f"web: {reason}; the dashboard's source is not {'checked' if options.check else 'built'}")
        sys.exit(0 if options.check else 2)
    try:
        if options.check:
            faults = check()
        else:
            install()
            build(BUNDLE)
            faults = over_budget(BUNDLE)
    except subprocess.CalledProcessError as error:
        sys.exit(f"web: `{' '.join(error.cmd)}` ended with {error.returncode}")
    if faults:
        sys.exit("\n".join(f"web: {fault}" for fault in faults))
    print("web: good")


if __name__ == "__main__":
    main()
