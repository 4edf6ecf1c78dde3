# SPDX-License-Identifier: Apache-2.0
"""What an import brings along, read from sys.modules of a fresh interpreter."""

import json
import subprocess
import sys

import pytest

HEAVY = ["jax", "jaxlib", "equinox", "optax", "gymnasium", "ale_py", "tyro", "rich"]


def loaded_by(statement: str) -> set[str]:
    """Heavy packages in a fresh interpreter after `statement`."""
    code = f"import sys, json; {statement}; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    return set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))


def test_import_shoal_loads_nothing_heavy():
    assert loaded_by("import shoal; shoal.errors; shoal.__version__; dir(shoal)") == set()


BELOW = ["types", "seeds", "errors", "envs", "envs.registry", "envs.jitted.ids", "engines", "records", "cli.main"]


@pytest.mark.parametrize("module", BELOW)
def test_no_jax_below_the_learners(module):
    assert not loaded_by(f"import shoal.{module}") & {"jax", "jaxlib", "equinox", "optax"}


@pytest.mark.parametrize("architecture", ["a2c", "ppo", "impala"])
def test_no_jax_in_a_config(architecture):
    assert not loaded_by(f"from shoal.architectures.{architecture} import Config; Config()") & {"jax", "jaxlib"}


def test_unknown_name_is_an_attribute_error():
    import shoal

    with pytest.raises(AttributeError, match="no name 'trian'"):
        _ = shoal.trian
