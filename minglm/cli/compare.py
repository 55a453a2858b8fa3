"""`minglm compare`: GLM against GPT, BERT and prefix LM."""

import dataclasses

from ..errors import MinglmError
from ..files import strict_json
from .arguments import positive


def add_compare(p):
    p.description = (
        "Pretrains the same network as GLM, GPT, BERT and prefix LM, and three ablations of GLM, then fine-tunes each on "
        "the same tasks: hours on two cores. It can be stopped at any time; the same command resumes it."
    )
    p.set_defaults(run=compare_command)
    p.add_argument(
        "--data",
        default="tutorials/data",
        metavar="DIR",
        help="the folders of tasks and texts (tutorials/data)",
    )
    p.add_argument(
        "--out",
        default="runs/compare",
        metavar="DIR",
        help="where cells, models and the table go (runs/compare)",
    )
    p.add_argument(
        "--minutes", type=positive, metavar="M", help="start no new cell after M minutes (default: no limit)"
    )
    p.add_argument(
        "--quick", action="store_true", help="a few steps of tiny models, to see that everything works"
    )
    p.add_argument("--report", action="store_true", help="compute nothing, print the results so far")
    p.add_argument(
        "--pretraining-seeds", type=positive, metavar="N", help="pretrained models of each kind (2)"
    )
    p.add_argument("--finetuning-seeds", type=positive, metavar="N", help="fine-tuning runs of each task (3)")
    p.add_argument("--steps", type=positive, metavar="N", help="steps of one pretraining (6,000)")


def compare_command(args):
    from ..compare.cells import Comparison
    from ..compare.plan import QUICK, Plan, cells
    from ..compare.table import print_summary, summary
    from ..files.lock import claimed
    from ..files.whole import write_whole
    from ..train.distributed import keep_memory
    from ..viz.figures import save_figure
    from ..viz.figures.comparison import fig_comparison

    keep_memory()
    given = {
        name: getattr(args, name)
        for name in ("pretraining_seeds", "finetuning_seeds", "steps")
        if getattr(args, name)
    }
    comparison = Comparison(
        dataclasses.replace(QUICK if args.quick else Plan(), **given), args.data, args.out
    )
    nothing = MinglmError(
        f"--report: {args.out} holds no cell of this comparison; leave out --report to start it"
    )
    if args.report and not comparison.file.is_file():
        raise nothing
    if not args.report:
        with claimed(comparison.out):
            comparison.run(cells(comparison.plan), args.minutes)
    found = summary(comparison)
    if not found["done"]:
        raise nothing
    print_summary(found)
    write_whole(comparison.out / "comparison.json", strict_json.dumps(found, indent=1) + "\n")
    save_figure(fig_comparison(found), comparison.out / "comparison.png")
    print(
        f"\nwrote       {comparison.out}: comparison.json, comparison.png; cells.jsonl, models/, texts/, log.txt"
    )
