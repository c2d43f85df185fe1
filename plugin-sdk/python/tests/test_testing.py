import types
import unittest

from coglex import testing


class Err(Exception):
    def __init__(self, value: object) -> None:
        self.value = value


class Suites(unittest.TestCase):
    def test_a_suite_lists_its_tests_and_tells_how_they_went(self) -> None:
        module = types.ModuleType("tests.some")
        source = "import os.path as test_os\ndef test_good(): pass\ndef test_bad(): assert 1 == 2, 'no'\ndef helper(): pass"
        exec(source, vars(module))
        testing.collect(module)
        self.assertEqual(testing.listed(), ["tests.some.test_good", "tests.some.test_bad"])
        testing.run(Err, "tests.some.test_good")
        with self.assertRaises(Err) as raised:
            testing.run(Err, "tests.some.test_bad")
        self.assertIn("AssertionError: no", raised.exception.value)

    def test_without_plugin_test_there_is_no_server_to_ask(self) -> None:
        with self.assertRaisesRegex(RuntimeError, "coglex plugin test"):
            testing.request("GET", "/")


if __name__ == "__main__":
    unittest.main()
