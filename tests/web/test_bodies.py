"""Bodies are counted while they arrive, each on its own and all together."""

import asyncio

import pytest

from pyro_lfm.web.bodies import Bodies
from pyro_lfm.web.limits import Limits
from pyro_lfm.web.refusal import Refusal


def test_bodies_that_arrive_at_once_are_counted_together():
    """Three requests whose first half has come: the third is sent away, and again taken when one has gone."""

    class Request:
        headers = {}

        def __init__(self):
            self.rest = asyncio.Event()

        async def stream(self):
            yield b" " * 9_000
            await self.rest.wait()
            yield b"{}"

    async def three():
        bodies, first, second = Bodies(Limits(body=20_000, bodies=20_000)), Request(), Request()
        reads = [asyncio.create_task(bodies.read(each)) for each in (first, second)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="too many requests at once") as refused:
            await bodies.read(Request())
        first.rest.set()
        second.rest.set()
        assert {len(body) for body in await asyncio.gather(*reads)} == {9_002} and refused.value.status == 429
        second.rest.set()
        assert await bodies.read(second) and bodies._held == 0

    asyncio.run(three())
