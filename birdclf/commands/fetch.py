"""Arguments of ``birdclf fetch``."""

import argparse
from pathlib import Path

SUMMARY = "fetch recordings from a public archive"
DESCRIPTION = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the archives and their arguments."""
    archives = parser.add_subparsers(dest="archive", metavar="ARCHIVE", required=True)
    xeno_canto = archives.add_parser(
        "xeno-canto",
        help="xeno-canto.org",
        description="Fill a folder with the recordings that a Xeno-canto query finds. Run the same command "
        "again to resume an interrupted download.",
        epilog="The environment variable XENO_CANTO_KEY holds your key (https://xeno-canto.org/account); "
        "BIRDCLF_XENO_CANTO_URL names another server, for mirrors and tests.",
    )
    xeno_canto.add_argument("query", help="terms with tags, such as 'gen:turdus q:A' or 'sp:\"larus fuscus\" q:A'")
    xeno_canto.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder for the recordings; it may hold earlier ones"
    )
    xeno_canto.add_argument(
        "--limit", type=int, default=None, metavar="N", help="most recordings to download (default: all)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Fetch from Xeno-canto, so far the only archive, and say what was fetched."""
    from birdclf.data.sources.fetch.client import XenoCantoClient, key_from_environment
    from birdclf.data.sources.fetch.download import fetch_xeno_canto

    out = arguments.out.expanduser()
    with XenoCantoClient(key_from_environment()) as client:
        done = fetch_xeno_canto(client, arguments.query, out, arguments.limit)
    print(f"{done.found} recordings found: {done.new} fetched, {done.already} there already, {done.skipped} skipped")
    if done.skipped:
        print(f"  {out / 'skipped.csv'} says why")
    print(f"Licences are in {out / 'recordings.csv'}; train with")
    print(f"  birdclf train data=xeno_canto data.root={out}")
