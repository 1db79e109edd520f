"""Coverage-guided fuzzing of the readers, with Atheris.

    python tests/robustness/fuzz.py --seconds 60                every target, one after the other
    python tests/robustness/fuzz.py npz h5 --seconds 600 -o DIR two of them; finds and logs in DIR

A find is any exception but an LstmstateError, more than 10 s for an input, or more than 900 MB.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

SECONDS, MEGABYTES = 10, 900  # for one input
KINDS = ("crash", "timeout", "oom", "leak")  # of finds, as libFuzzer names their files


def attack(name: str) -> None:
    """Fuzz one target in this process; libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["lstmstate"]):
        from targets import TARGETS

        from lstmstate.errors import LstmstateError
    warnings.simplefilter("ignore")
    read = TARGETS[name].read
    ram = Path("/dev/shm")

    def once(data: bytes) -> None:
        with tempfile.TemporaryDirectory(dir=ram if ram.is_dir() else None) as folder:
            try:
                read(data, Path(folder))
            except LstmstateError as error:
                str(error)

    atheris.Setup(sys.argv, once)
    atheris.Fuzz()


def measure(name: str, seconds: int, folder: Path) -> tuple[int, int, list[Path]]:
    """Fuzz one target in a process of its own.

    Returns:
        Executions, covered edges, and the inputs of finds.
    """
    from targets import TARGETS

    corpus = folder / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    flags = {
        "max_total_time": seconds,
        "timeout": SECONDS,
        "rss_limit_mb": MEGABYTES,
        "artifact_prefix": f"{folder}/{name}-",
        "print_final_stats": 1,
        "max_len": 1 << 18,
    }
    words = [f"-{key}={value}" for key, value in flags.items()]
    command = [sys.executable, __file__, "--attack", name, *words, str(corpus)]
    with (folder / f"{name}.log").open("w+b") as log:
        subprocess.run(command, stdout=log, stderr=log, check=False)
        log.seek(0)
        output = log.read().decode(errors="replace")
    runs = re.findall(r"number_of_executed_units: (\d+)", output) or re.findall(r"#(\d+)", output)
    edges = re.findall(r"cov: (\d+)", output)
    finds = [path for kind in KINDS for path in folder.glob(f"{name}-{kind}-*")]
    return int(runs[-1]) if runs else 0, int(edges[-1]) if edges else 0, finds


def processor_seconds() -> float:
    """Return the processor time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Fuzz the targets of the command line and print their figures."""
    from targets import TARGETS

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("-o", "--output", type=Path, help="folder for corpora, logs and finds")
    given = parser.parse_args()
    folder = given.output or Path(tempfile.mkdtemp(prefix="lstmstate-fuzz-"))
    found: list[Path] = []
    print(f"{'target':18} {'executions':>10} {'edges':>6} {'processor s':>11} finds")
    for name in given.targets or TARGETS:
        before = processor_seconds()
        runs, edges, finds = measure(name, given.seconds, folder)
        used = processor_seconds() - before
        found += finds
        print(f"{name:18} {runs:10,} {edges:6} {used:11.0f} {len(finds)}", flush=True)
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    if "--attack" in sys.argv:
        target = sys.argv.pop(sys.argv.index("--attack") + 1)
        sys.argv.remove("--attack")
        attack(target)
    else:
        sys.exit(main())
