"""What the tables of the READMEs are made of: a table, a number and its error, where it was measured."""

from minglm.machine import machine_line

MADE = {}  # (file, name of the table): the function that makes it


def of(file):
    """Register a function that makes a table or a paragraph from FILE.json."""

    def keep(function):
        MADE[file, function.__name__] = function
        return function

    return keep


def table(heads, rows):
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def pm(result, digits=1):
    """Example: pm({"score": 73.14, "standard_error": 1.4}) -> "73.1 ± 1.4"."""
    return f"{result['score']:.{digits}f} ± {result['standard_error']:.{digits}f}"


def value(metric):
    """Example: value({"value": 1.443, "standard_error": 0.011}) -> "1.44 ± 0.01"."""
    return scaled(metric, 1, 2)


def scaled(metric, times, digits):
    """Example: scaled({"value": 0.731, "standard_error": 0.014}, 100, 1) -> "73.1 ± 1.4"."""
    return f"{times * metric['value']:.{digits}f} ± {times * metric['standard_error']:.{digits}f}"


def share(metric):
    """Example: share({"value": 0.731, "standard_error": 0.014}) -> "73.1 % ± 1.4"."""
    return f"{100 * metric['value']:.1f} % ± {100 * metric['standard_error']:.1f}"


def benched(results):
    """The machine and the day of a bench."""
    return machine_line(results["machine"]) + "."


@of("box")
def conditions(results):
    """How, where and when a result with an `origin` was measured."""
    threads = "1 thread" if results["threads"] == 1 else f"{results['threads']} threads"
    where = f"{results['day']}, {results['machine']}, {threads} on {results['cores']} cores"
    versions = f"commit {results['commit']}, PyTorch {results['torch']}, Python {results['python']}"
    return f"`{results['command']}`: {where}, {versions}."
