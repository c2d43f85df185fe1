"""Functions that clients call by name."""

from coglex import failure, function


@function
def greet(name: str, greeting: str = "Hello") -> str:
    """Greets somebody."""
    if not name:
        raise failure("no_name", "whom shall I greet?")
    return f"{greeting}, {name}!"
