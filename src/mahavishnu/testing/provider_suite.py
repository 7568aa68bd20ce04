"""The contract of a queue provider as tests; a provider is done when they pass.

Subclass `ProviderContract` in a test module and give it a fixture and a declaration:

```python
class TestMyProvider(ProviderContract):
    capabilities = Capabilities(lease_extension=False)
    child_factory = "my_package.my_tests:provider_at"

    @pytest.fixture
    def make_provider(self, place):
        return lambda: MyProvider(url=place)
```

Needs `pytest` and `pytest-asyncio`. Tests are skipped only because of a declared capability.
"""

from __future__ import annotations

from mahavishnu.testing.suite.control import ControlContract
from mahavishnu.testing.suite.fixtures import MakeProvider
from mahavishnu.testing.suite.leasing import LeasingContract
from mahavishnu.testing.suite.lifecycle import LifecycleContract
from mahavishnu.testing.suite.parking import ParkingContract
from mahavishnu.testing.suite.processes import ProcessesContract
from mahavishnu.testing.suite.storing import StoringContract

__all__ = ["MakeProvider", "ProviderContract"]


class ProviderContract(
    StoringContract, LeasingContract, ParkingContract, ControlContract, LifecycleContract, ProcessesContract
):
    """Every test of the contract.

    Attributes:
        capabilities: What the provider claims; the suite checks that it declares the same.
        child_factory: `package.module:function` that makes a provider from a place, for tests with several
            processes; needed where `survives_restart` and `shared_between_processes` are claimed.
        short_ms: A lease or delay that is short but safe for this provider, 300 by default.
        wake_seconds: Within which time a waiting receiver hears of a new message, 2 by default.

    Fixtures to give or replace:
        make_provider: A function without arguments that makes a provider, not yet open; each one it makes
            stores its messages in the same place.
        place: Where that is, in words `child_factory` understands; a temporary folder by default.
        clock: What the provider goes by: the system clock by default. One that takes a `Clock` is given a
            `FakeClock` here and in `make_provider`, so that the tests advance it instead of waiting.
    """
