"""The choice of an engine, as data: ordered rules, what speaks against each engine, and trade-offs.

`RULES` are asked from first to last and the first that holds decides. The last one accepts every
frequency, so that some rule holds for any task. `CAUTIONS` are the "when not to use" lists of the
selection guide, for all three engines; most of them cannot apply to the engine that the rules choose,
but they do apply to an engine somebody asks for by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from mahavishnu.classification.characteristics import VALID_VALUES, TaskCharacteristics
from mahavishnu.model.engine import EngineName

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CAUTIONS", "RULES", "TRADE_OFFS", "Caution", "FieldName", "Rule"]

FieldName = Literal["frequency", "visibility", "complexity", "durability", "infrastructure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One question about a task, and the engine that some of its answers lead to.

    Args:
        question: What to ask a person.
        explanation: One line on what the answers mean.
        field: The characteristic that answers the question.
        values: The answers for which the rule holds.
        engine: Where the task then belongs.
        reason: Why, as a sentence about the task.
    """

    question: str
    explanation: str
    field: FieldName
    values: frozenset[str]
    engine: EngineName
    reason: str

    def holds(self, characteristics: TaskCharacteristics) -> bool:
        """Return whether the task's answer is one of `values`."""
        return getattr(characteristics, self.field) in self.values


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution:
    """A reason not to run some tasks on an engine.

    Args:
        code: A short, stable name for programs.
        engine: The engine it speaks against.
        when: Field -> values; it applies to a task that matches every field.
        longer_than: It applies only to tasks expected to run longer than this; `None` means any.
        message: What is wrong, and what to do instead.
    """

    code: str
    engine: EngineName
    when: Mapping[FieldName, frozenset[str]]
    longer_than: timedelta | None = None
    message: str

    def applies_to(self, characteristics: TaskCharacteristics) -> bool:
        """Return whether a task with these characteristics is one that the engine should not run."""
        return self._is_long(characteristics.expected_duration) and all(
            getattr(characteristics, field) in values for field, values in self.when.items()
        )

    def _is_long(self, duration: timedelta | None) -> bool:
        return self.longer_than is None or (duration is not None and duration > self.longer_than)


def _when(field: FieldName, *values: str) -> Mapping[FieldName, frozenset[str]]:
    return MappingProxyType({field: frozenset(values)})


RULES: tuple[Rule, ...] = (
    Rule(
        question="Who follows its runs?",
        explanation="user-facing: people want a page with its state, its history and a retry button",
        field="visibility",
        values=frozenset({"user-facing"}),
        engine=EngineName.PREFECT,
        reason="people follow its runs, and Prefect gives them a dashboard with state, history and retries",
    ),
    Rule(
        question="How do its steps hang together?",
        explanation="dag: steps that wait for each other; complex: steps or repositories chosen while it runs",
        field="complexity",
        values=frozenset({"dag", "complex"}),
        engine=EngineName.PREFECT,
        reason="its steps depend on each other, and Prefect tracks and retries each step on its own",
    ),
    Rule(
        question="What if the process stops before it has run?",
        explanation="persistent: it must run all the same, after a restart or elsewhere",
        field="durability",
        values=frozenset({"persistent"}),
        engine=EngineName.ONEIRIC,
        reason="it must outlive the process, and a durable queue keeps it until it is done",
    ),
    Rule(
        question="Where may it run?",
        explanation="distributed: by workers in other processes, on other machines or in a cloud",
        field="infrastructure",
        values=frozenset({"distributed"}),
        engine=EngineName.ONEIRIC,
        reason="it runs outside this process, and a queue hands it to whichever worker is free",
    ),
    Rule(
        question="How often does it run?",
        explanation="high: more than once a minute; medium: up to once a minute; low: daily or less often",
        field="frequency",
        values=frozenset(VALID_VALUES["frequency"]),
        engine=EngineName.APSCHEDULER,
        reason="it is internal, simple, ephemeral and local: it needs nothing but this process, where it starts"
        " at once",
    ),
)

CAUTIONS: tuple[Caution, ...] = (
    Caution(
        code="user-facing-in-process",
        engine=EngineName.APSCHEDULER,
        when=_when("visibility", "user-facing"),
        message="in-process runs have no dashboard for the people who follow this task: use Prefect",
    ),
    Caution(
        code="long-running-in-process",
        engine=EngineName.APSCHEDULER,
        when=MappingProxyType({}),
        longer_than=timedelta(minutes=5),
        message="runs of over 5 minutes share this process and are lost when it stops: make the task persistent"
        " and so queued, or user-facing and so on Prefect",
    ),
    Caution(
        code="distributed-in-process",
        engine=EngineName.APSCHEDULER,
        when=_when("infrastructure", "distributed"),
        message="in-process runs never leave this process: use a queue, whose workers may be anywhere",
    ),
    Caution(
        code="persistent-in-process",
        engine=EngineName.APSCHEDULER,
        when=_when("durability", "persistent"),
        message="in-process runs end with the process: use a queue, which keeps them",
    ),
    Caution(
        code="high-frequency-on-queue",
        engine=EngineName.ONEIRIC,
        when=_when("frequency", "high"),
        message="more than once a minute, each run pays for a durable write, a delivery and an acknowledgement:"
        " run it in process if it may be ephemeral and local, or less often",
    ),
    Caution(
        code="user-facing-on-queue",
        engine=EngineName.ONEIRIC,
        when=_when("visibility", "user-facing"),
        message="queued runs have no dashboard for the people who follow this task: use Prefect",
    ),
    Caution(
        code="high-frequency-on-prefect",
        engine=EngineName.PREFECT,
        when=_when("frequency", "high"),
        message="more than once a minute is too often for Prefect, whose runs take seconds to start: run the"
        " frequent part in process, and let it start a flow only when there is something to do",
    ),
    # The guide's "simple internal tasks" and "tasks without observability needs" are one condition: a task
    # that is a DAG or complex needs the state of its steps, whoever looks at it.
    Caution(
        code="overkill-on-prefect",
        engine=EngineName.PREFECT,
        when=MappingProxyType({"visibility": frozenset({"internal"}), "complexity": frozenset({"simple"})}),
        message="a simple task that nobody follows does not need a server, a worker and a dashboard: queue it or"
        " run it in process",
    ),
)

TRADE_OFFS: Mapping[EngineName, str] = MappingProxyType(
    {
        EngineName.APSCHEDULER: "starts at once and needs no worker, but its runs stay in this process and end with it",
        EngineName.ONEIRIC: "survives restarts and spreads over workers, but needs a worker running and shows no"
        " dashboard",
        EngineName.PREFECT: "shows every run and step on a dashboard, but needs a Prefect server and takes seconds"
        " to start a run",
    }
)
