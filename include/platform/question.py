"""A question to a person in Airflow's UI, and what became of it: who answered what, when and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import timedelta

    from airflow.sdk import Context

LEAST_REASON: Final = 10
MOST_REASON: Final = 1000
"""Characters of a reason."""


@dataclass(frozen=True)
class Answer:
    """What a person said.

    Attributes:
        choice: in the words of the question.
        by: the user's name as Airflow knows it; ``nobody`` if the question timed out.
        reason: in that person's words, on one line.
        at: UTC.
    """

    choice: str
    by: str
    reason: str
    at: datetime

    @property
    def reasoned(self) -> bool:
        """Whether a person said it, and gave a reason."""
        return self.by != "nobody" and len(self.reason) >= LEAST_REASON


def read_answer(answer: Mapping[str, Any]) -> Answer:
    """An answer as XCom gives it back."""
    [choice] = answer["chosen_options"]
    person = answer.get("responded_by_user") or {}
    at = answer["responded_at"]
    return Answer(
        choice,
        str(person.get("name") or person.get("id") or "") or "nobody",
        " ".join(str((answer.get("params_input") or {}).get("reason") or "").split()),
        at if isinstance(at, datetime) else datetime.fromisoformat(str(at)),
    )


class QuestionOperator(HITLOperator):
    """Asks a person, who may give a reason. Waits without using a worker; silence is the default answer.

    Args:
        subject: the question.
        body: what the person has to know, as Markdown.
        options: the answers.
        default: the answer of who does not answer.
        reason: what the reason is needed for.
        answer_within: how long the person has, each time they are asked.
        reasoned: the answers that need a person and a reason; who gives one without is asked again.

    Raises:
        ValueError: the default is an answer that needs a reason: silence would be asked for ever.
    """

    def __init__(
        self,
        *,
        subject: str,
        body: str,
        options: Sequence[str],
        default: str,
        reason: str,
        answer_within: timedelta,
        reasoned: Collection[str] = (),
        **kwargs: Any,
    ) -> None:
        if default in reasoned:
            raise ValueError(f"expected a default that needs no reason, found {default!r}")
        self.reasoned = frozenset(reasoned)
        # a limit of execution would be taken for the limit of the answer
        kwargs["execution_timeout"] = None
        kwargs.pop("params", None)  # the DAG's: the form is not about them
        super().__init__(
            subject=subject,
            body=body,
            options=list(options),
            defaults=default,
            params={
                "reason": Param("", type="string", maxLength=MOST_REASON, title="Reason", description=reason),
            },
            response_timeout=answer_within,
            **kwargs,
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Take the answer; ask again where it needs a reason and has none.

        The form can't demand one of some answers only, and who answers by the API meets no form.
        """
        answer = super().execute_complete(context, event)
        said = read_answer(answer)
        if said.choice in self.reasoned and not said.reasoned:
            self.log.warning(
                "expected a person and a reason of at least %d characters for %s, found %s and %r; asking again",
                LEAST_REASON,
                said.choice,
                said.by,
                said.reason,
            )
            return self.execute(context)
        return answer
