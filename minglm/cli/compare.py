"""`minglm compare`: GLM against GPT, BERT and prefix LM."""

from ..errors import MinglmError
from ..files import strict_json
from .arguments import positive


def add_compare(p):
    p.description = (
        "Pretrain the same network as GLM, GPT, BERT, prefix LM and three ablations of GLM, then fine-tune "
        "each on the same tasks. This takes hours on two cores; stop it at any time, the same command "
        "resumes it."
    )
    p.set_defaults(run=compare_command)
    p.add_argument(
        "--data",
        default="tutorials/data",
        metavar="DIR",
        help="the folder with the tasks' data sets (tutorials/data)",
    )
    p.add_argument(
        "--out",
        default="runs/compare",
        metavar="DIR",
        help="where results, models and the table go (runs/compare)",
    )
    p.add_argument(
        "--minutes",
        type=positive,
        metavar="M",
        help="start no new training after M minutes (default: no limit)",
    )
    p.add_argument(
        "--quick", action="store_true", help="a few steps of tiny models, to check that everything works"
    )
    p.add_argument(
        "--size",
        choices=("page", "large"),
        default="page",
        help="page: 1.3 M parameters, novels and tasks, five hours; large: 3.5 M, simple stories, the recipe "
        "of the bundled model, ten hours of one core (page)",
    )
    p.add_argument(
        "--stories",
        metavar="DIR",
        help="for --size large: the folder with the stories (minglm/box/ORIGIN.md says where to get them)",
    )
    p.add_argument("--report", action="store_true", help="only print the results so far")
    p.add_argument(
        "--pretraining-seeds", type=positive, metavar="N", help="pretrained models per family (2; large 3)"
    )
    p.add_argument(
        "--finetuning-seeds", type=positive, metavar="N", help="fine-tuning runs per task (3; large 1)"
    )
    p.add_argument("--steps", type=positive, metavar="N", help="pretraining steps (6,000; large 3,000)")


def compare_command(args):
    from ..compare.cells import Comparison
    from ..compare.plan import FEW, LargePlan, Plan, cells
    from ..compare.table import print_summary, summary
    from ..files.lock import claimed
    from ..files.whole import write_whole
    from ..train.distributed import keep_memory
    from ..viz.figures import save_figure
    from ..viz.figures.comparison import fig_comparison

    keep_memory()
    options = ("pretraining_seeds", "finetuning_seeds", "steps")
    given = {name: getattr(args, name) for name in options if getattr(args, name)}
    large = args.size == "large"
    plan = (LargePlan if large else Plan)(**(FEW if args.quick else {}) | given)
    if bool(args.stories) != large and not (large and args.report):
        raise MinglmError("--stories: goes with --size large, which needs it")
    comparison = Comparison(plan, args.data, args.out, args.stories)
    nothing = MinglmError(
        f"--report: {args.out} holds no cell of this comparison; leave out --report to start it"
    )
    if args.report and not comparison.file.is_file():
        raise nothing
    if not args.report:
        with claimed(comparison.out):
            comparison.run(cells(comparison.plan), args.minutes)
    results, out = summary(comparison), comparison.out
    if not results["done"]:
        raise nothing
    print_summary(results)
    write_whole(out / "comparison.json", strict_json.dumps(results, indent=1) + "\n")
    save_figure(fig_comparison(results), out / "comparison.png")
    print(f"\nwrote       {out}: comparison.json, comparison.png; cells.jsonl, models/, texts/, log.txt")
