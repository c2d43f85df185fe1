"""Everything that a test can say and see; run by `coglex plugin test`."""

import time
from datetime import datetime, timezone

from coglex import Problem, auth, config, kv, log, storage, testing


def add(text):
    return testing.request("POST", "/api/app-in-python/notes", json_body={"text": text})


def test_a_store_is_empty_at_first():
    assert storage.find("notes") == []
    assert add("a").status == 201
    assert len(storage.find("notes")) == 1


def test_a_store_is_empty_at_first_again():
    assert storage.find("notes") == []


def test_keys_live_by_the_tests_clock():
    kv.set("key", "value", ttl=60)
    testing.advance(59.999)
    assert kv.get("key") == b"value"
    testing.advance(0.001)
    assert kv.get("key") is None


def test_time_stands_still_and_sleep_moves_it():
    wall, start = time.time(), time.monotonic()
    assert time.time() == wall
    time.sleep(3600)
    assert abs(time.monotonic() - start - 3600) < 0.01
    birthday = datetime(2001, 9, 9, tzinfo=timezone.utc)
    testing.set_time(birthday)
    assert datetime.now(timezone.utc) == birthday


def test_users_are_signed_in():
    assert auth.user("users") is None
    id = testing.as_user("users", "ann", {"roles": ["admin"]})
    assert auth.require("users").id == id
    assert testing.request("GET", "/service/auth/v1/session/users/").read_json()["_key"] == "ann"
    testing.as_client()
    assert auth.user("users") is None


def test_guards_and_methods_are_the_servers():
    testing.as_anonymous()
    refused = add("a")
    assert (refused.status, refused.read_json()["code"]) == (401, "api_key_required")
    assert testing.request("PUT", "/api/app-in-python/notes").status == 405


def test_settings_secrets_and_the_log_are_the_tests():
    assert config.get("page") is None
    testing.set_setting("page", 20)
    assert config.get("page") == "20"
    testing.set_secret("token", "t")
    assert config.secret("token") == "t"
    log.info("hello", number=7)
    assert testing.logs()[-1] == testing.LogLine("info", "hello", {"number": "7"})


def test_what_is_raised_can_be_looked_at():
    try:
        testing.call("absent", 1, a=2)
    except Problem as problem:
        assert (problem.status, problem.code) == (404, "not_found")
    else:
        raise AssertionError("nothing was raised")
