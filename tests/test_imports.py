import subprocess
import sys

import pytest

CORE = ["prefect_simopt", "prefect_simopt.loop", "prefect_simopt.session", "prefect_simopt.api", "prefect_simopt.cli"]


@pytest.mark.parametrize("module", CORE)
def test_the_core_imports_neither_prefect_nor_jax(module):
    code = f"import sys, {module}; print([m for m in ('prefect', 'jax') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_of_the_package_is_there():
    import prefect_simopt

    assert [name for name in prefect_simopt.__all__ if not hasattr(prefect_simopt, name)] == []
    with pytest.raises(AttributeError, match="nonsense"):
        _ = prefect_simopt.nonsense
