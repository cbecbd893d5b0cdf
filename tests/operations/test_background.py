"""Steps that share a loop."""

import pytest

from app.background import each


async def test_a_step_that_fails_does_not_starve_the_others() -> None:
    done: list[str] = []

    async def failing() -> int:
        done.append("failing")
        raise ValueError("no luck")

    async def working() -> int:
        done.append("working")
        return 2

    with pytest.raises(ValueError, match="no luck"):
        await each(failing, working)()
    assert done == ["failing", "working"]
    assert await each(working, working)() == 4
