"""`minglm info`: what this installation is, and whether its results are right."""

import json

from ..errors import MinglmError


def info_command(args):
    from .report import collect, show

    report = collect()
    print(json.dumps(report, ensure_ascii=False) if args.json else show(report))
    if not all(result["ok"] for result in report["self_test"]):
        raise MinglmError("the self-test failed")


def add_info(p):
    p.description = (
        "Print versions, instruction sets, which attention runs where and why, a self-test, and what would "
        "improve this installation."
    )
    p.set_defaults(run=info_command)
    p.add_argument("--json", action="store_true", help="print one line of JSON")
