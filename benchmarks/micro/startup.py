# SPDX-License-Identifier: Apache-2.0
"""How long until something happens: import, help, a bad command, the first update with and without compiled code kept.

Every measurement is a new process. `import shoal` is the import alone; commands are whole processes, the interpreter's
own start included and also given by itself.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import processes, record

MODULE = "benchmarks.micro.startup"
IMPORT = "import time; t = time.perf_counter(); import shoal; print(time.perf_counter() - t); import sys; "
IMPORT += "print(any(name in sys.modules for name in ('jax', 'equinox', 'optax')))"
IMPORT_LIMIT_S = 0.3
COMMAND_LIMIT_S = 1.0

HELP = {
    "--help": ["--help"],
    "train --help": ["train", "--help"],
    "train ppo --help": ["train", "ppo", "--help"],
    "train impala --env CartPole-v1 --help": ["train", "impala", "--env", "CartPole-v1", "--help"],
    "list architectures": ["list", "architectures"],
    "describe impala": ["describe", "impala"],
}
BAD = {
    "unknown command": ["trian"],
    "no architecture": ["train"],
    "unknown architecture": ["train", "pppo", "--env", "CartPole-v1"],
    "planned architecture": ["train", "seed", "--env", "CartPole-v1"],
    "unknown environment": ["train", "ppo", "--env", "CartPole-v9"],
    "unknown game": ["train", "ppo", "--env", "ale:pongg"],
    "unknown module": ["train", "ppo", "--env", "no_such_module:Env"],
    "unknown field": ["train", "ppo", "--env", "CartPole-v1", "--epoch", "3"],
    "unreadable value": ["train", "ppo", "--env", "CartPole-v1", "--epochs", "three"],
    "impossible value": ["train", "ppo", "--env", "CartPole-v1", "--epochs", "0"],
    "impossible combination": ["train", "ppo", "--env", "CartPole-v1", "--minibatches", "100000"],
    "unknown engine": ["train", "ppo", "--env", "CartPole-v1", "--engine", "thread"],
    "no run folder": ["resume", "no/such/folder"],
    "no run to evaluate": ["evaluate", "no/such/folder"],
}
FIRST_UPDATE = {
    "ppo CartPole-v1": ["train", "ppo", "--env", "CartPole-v1"],
    "impala CartPole-v1": ["train", "impala", "--env", "CartPole-v1"],
    "impala ale:pong": ["train", "impala", "--env", "ale:pong"],
}


def shoal_command(*words: str) -> list[str]:
    """The command as a process of this Python."""
    return [sys.executable, "-m", "shoal", *words]


def import_alone() -> dict[str, Any]:
    """Seconds of `import shoal` in a new interpreter, and whether it brought JAX in."""
    seconds, with_jax = processes.run([sys.executable, "-c", IMPORT]).output.split()
    return {"seconds": float(seconds), "imports_jax": with_jax == "True"}


def first_update(words: list[str], cache: Path) -> dict[str, float]:
    """Seconds from the command to its first row of metrics, which follows the first update, and to its end.

    One environment step is asked for, so the run ends after one update, its checkpoint and report.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = shoal_command(*words, "--env-steps", "1", "--run-dir", str(run_dir))
        env = {"XDG_CACHE_HOME": str(cache), "JAX_COMPILATION_CACHE_DIR": "", "JAX_PLATFORMS": "cpu"}
        process = processes.run(command, env=env, watch=run_dir / "metrics.jsonl")
    return {"to_first_update_s": process.first_line_s, "to_end_s": process.seconds}


def round_of_all(with_pong: bool) -> dict[str, Any]:
    """Every measurement once."""
    found: dict[str, Any] = {"interpreter": processes.run([sys.executable, "-c", ""]).seconds, "import": import_alone()}
    found["help"] = {name: processes.run(shoal_command(*words)).seconds for name, words in HELP.items()}
    found["bad"] = {}
    for name, words in BAD.items():
        process = processes.run(shoal_command(*words), expect=None)
        one_line = process.errors.count("\n") == 1 and "Traceback" not in process.errors
        found["bad"][name] = {"seconds": process.seconds, "exit_code": process.code, "one_line": one_line}
    found["first_update"] = {}
    for name, words in FIRST_UPDATE.items():
        if with_pong or "pong" not in name:
            with tempfile.TemporaryDirectory() as cache:
                found["first_update"][f"{name}, cold"] = first_update(words, Path(cache))
                found["first_update"][f"{name}, warm"] = first_update(words, Path(cache))
    return found


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians and spread of each, and the limits."""
    imported = record.summarise([each["import"]["seconds"] for each in rounds])
    commands = {name: record.summarise([each["help"][name] for each in rounds]) for name in HELP}
    bad = {name: record.summarise([each["bad"][name]["seconds"] for each in rounds]) for name in BAD}
    updates = {}
    for name in rounds[0]["first_update"]:
        kinds = rounds[0]["first_update"][name]
        updates[name] = {
            what: record.summarise([each["first_update"][name][what] for each in rounds]) for what in kinds
        }
    tidy = all(b["one_line"] and b["exit_code"] in (2, 3, 4) for each in rounds for b in each["bad"].values())
    return {
        "interpreter_s": record.summarise([each["interpreter"] for each in rounds]),
        "import_s": imported,
        "imports_jax": any(each["import"]["imports_jax"] for each in rounds),
        "help_s": commands,
        "bad_command_s": bad,
        "first_update_s": updates,
        "import_below_limit": imported["median"] < IMPORT_LIMIT_S,
        "commands_below_limit": all(each["median"] < COMMAND_LIMIT_S for each in [*commands.values(), *bad.values()]),
        "bad_commands_are_one_line_with_code_2_to_4": tidy,
    }


def main() -> None:
    """Rounds, table, verdicts."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--repeats", type=int, default=None, help="default 5")
    given = parser.parse_args()
    repeats = given.repeats or (1 if given.quick else 5)
    began = record.conditions()
    rounds = [round_of_all(with_pong=not given.quick) for _ in range(repeats)]
    found = summary(rounds)
    rows = [["interpreter alone", found["interpreter_s"]], ["import shoal (import alone)", found["import_s"]]]
    rows += [[f"shoal {name}", seconds] for name, seconds in found["help_s"].items()]
    rows += [[f"bad: {name}", seconds] for name, seconds in found["bad_command_s"].items()]
    rows += [[f"first update: {name}", kinds["to_first_update_s"]] for name, kinds in found["first_update_s"].items()]
    print(
        record.table(
            [[name, s["median"], s["min"], s["max"]] for name, s in rows], ["seconds", "median", "least", "most"]
        )
    )
    for what in ("import_below_limit", "commands_below_limit", "bad_commands_are_one_line_with_code_2_to_4"):
        print(f"{what.replace('_', ' ')}: {'yes' if found[what] else 'NO'}")
    limits = {"import_s": IMPORT_LIMIT_S, "command_s": COMMAND_LIMIT_S}
    record.write("startup", MODULE, quick=given.quick, began=began, limits=limits, summary=found, rounds=rounds)


if __name__ == "__main__":
    main()
