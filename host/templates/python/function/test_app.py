import unittest

import app
from coglex import Problem, functions


class Greeting(unittest.TestCase):
    def test_greets_by_name(self) -> None:
        self.assertEqual(app.greet("Ann"), "Hello, Ann!")
        self.assertEqual(functions.call("greet", ["Ann"], {"greeting": "Hi"}), "Hi, Ann!")

    def test_needs_a_name(self) -> None:
        with self.assertRaises(Problem):
            app.greet("")


if __name__ == "__main__":
    unittest.main()
