"""Contracts say the roles that the server enforces: ``infra/check_contracts.py``."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
PROTOS = sorted((ROOT / "protos" / "rf_protos" / "v1").glob("*.proto"))


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_contracts", ROOT / "infra" / "check_contracts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_written_of_roles_and_statuses_is_what_holds(check: ModuleType) -> None:
    assert {path for path, _, _ in check.stated()} == set(PROTOS)
    for path, text, right in check.stated():
        assert text == right, f"{path}: run `make stubs`"


@pytest.mark.parametrize("proto", [p for p in PROTOS if "rpc " in p.read_text()], ids=lambda path: path.stem)
def test_a_contract_that_says_another_role_or_none_is_corrected(check: ModuleType, proto: Path) -> None:
    right = proto.read_text()
    said = re.findall(r'.*Needs the role "(\w+)".*\n  rpc \w+', right)
    assert len(said) == right.count("  rpc ")
    for role in set(said):
        assert check.with_roles(right.replace(f'"{role}"', '"everybody"')) == right
    assert check.with_roles(re.sub(r"  // Needs the role.*\n", "", right)) == right
    at_the_service = right.replace("\nservice ", '\n// What it is for. Needs the role "read", GetItems none.\nservice ')
    assert "GetItems none" not in check.with_roles(at_the_service)


def test_a_method_without_a_role_is_no_contract_of_ours(check: ModuleType) -> None:
    with pytest.raises(KeyError, match="Forget"):
        check.with_roles("service CatalogService {\n  rpc Forget(Request) returns (Response);\n}\n")
