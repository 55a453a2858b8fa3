"""hf:// names: text files of a data set on the Hugging Face hub, fetched into its cache."""

from pathlib import Path

from ..errors import MinglmError, need, reason

ACCEPTED = "hf://datasets/OWNER/NAME or hf://datasets/OWNER/NAME/FOLDER is accepted"


def is_hub(name):
    """Whether a name asks for files of the hub."""
    return str(name).startswith("hf:/")  # Path takes one of two slashes away


def fetched(name, endings):
    """The local folder of an hf:// name, with its files of these endings; those in the cache are not fetched.

    Files alone are fetched: no code of the data set is run. Raises MinglmError, also without a network.
    """
    need("huggingface_hub", str(name))
    import huggingface_hub

    words = str(name).removeprefix("hf:").strip("/").split("/")
    if len(words) < 3 or words[0] != "datasets" or not all(words) or ".." in words:
        raise MinglmError(f"{name}: {ACCEPTED}")
    repository, below = "/".join(words[1:3]), "/".join(words[3:])
    patterns = [f"{below}/*{ending}" if below else f"*{ending}" for ending in endings]
    try:
        folder = huggingface_hub.snapshot_download(repository, repo_type="dataset", allow_patterns=patterns)
    except Exception as error:  # of the network, of the hub, of a name: many kinds, none of them ours
        why = reason(error) if isinstance(error, OSError) else (str(error).splitlines() or [""])[0]
        why = why or type(error).__name__
        raise MinglmError(f"hf://{'/'.join(words)}: cannot be fetched: {why[:200]}") from error
    return Path(folder, below)
