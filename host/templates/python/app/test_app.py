import unittest

import app  # noqa: F401, fills coglex.app
import coglex


class Greeting(unittest.TestCase):
    def test_greets_by_name(self) -> None:
        response = coglex.app.respond(coglex.Request("GET", "/api/{{name}}/hello?name=Ann"))
        self.assertEqual(response.body, b"Hello, Ann!")


if __name__ == "__main__":
    unittest.main()
