"""Run by `coglex plugin test`, each test with a server in memory."""

from coglex import Problem, testing


def test_greets_clients() -> None:
    assert testing.call("greet", "Ann") == "Hello, Ann!"
    try:
        testing.call("greet", "")
    except Problem as problem:
        assert problem.code == "no_name"
    else:
        raise AssertionError("nobody was greeted")
