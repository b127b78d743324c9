"""The Redshift Data API: statements are submitted, run behind the answer, and asked about by their id."""

from __future__ import annotations

import queue
import re
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from include.local.aurora.warehouse import Result, Session, StatementError, Warehouse, parameter_names

if TYPE_CHECKING:
    from include.local.aurora.replicator import Replicator

PAGE_ROWS: Final = 500
KEPT_STATEMENTS: Final = 2_000
_STATEMENT_ID: Final = re.compile(r"[a-z0-9]{8}(-[a-z0-9]{4}){3}-[a-z0-9]{12}(:\d{0,2})?")
_OVER: Final = frozenset({"FINISHED", "FAILED", "ABORTED"})

type Json = dict[str, Any]


class ApiError(Exception):
    """An error as the service answers it.

    Attributes:
        code: the error's code, as botocore raises it.
        status: HTTP status.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass
class Part:
    """One SQL statement: the whole of ExecuteStatement's, one of BatchExecuteStatement's."""

    id: str
    sql: str
    status: str = "SUBMITTED"
    error: str | None = None
    result: Result = field(default_factory=Result)
    created_at: float = field(default_factory=time.time)
    updated_at: float = field(default_factory=time.time)
    duration: float = 0.0

    def move(self, status: str, error: str | None = None) -> None:
        """Go to another status."""
        if status in _OVER and self.status == "STARTED":
            self.duration = time.time() - self.updated_at
        self.status, self.error, self.updated_at = status, error, time.time()

    def describe(self) -> Json:
        """The fields that statements and sub-statements share."""
        described = {
            "Id": self.id,
            "QueryString": self.sql,
            "Status": self.status,
            "CreatedAt": self.created_at,
            "UpdatedAt": self.updated_at,
            "Duration": int(self.duration * 1e9),
            "HasResultSet": self.status == "FINISHED" and self.result.columns is not None,
            "ResultRows": len(self.result.rows) if self.status == "FINISHED" else -1,
            "ResultSize": sum(len(str(value)) for row in self.result.rows for value in row),
            "RedshiftQueryId": 0,
        }
        return described | ({"Error": self.error} if self.error else {})


@dataclass
class Statement(Part):
    """A submitted statement or batch."""

    request: Json = field(default_factory=dict)
    batch: list[Part] = field(default_factory=list)
    session: Session = field(default_factory=Session)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def parameters(self) -> dict[str, str]:
        """Values of the ``:name`` parameters."""
        return {parameter["name"]: parameter["value"] for parameter in self.request.get("Parameters", [])}

    def move(self, status: str, error: str | None = None) -> None:
        """Go to another status; wake who waits for the last one."""
        super().move(status, error)
        if status in _OVER:
            for part in self.batch:
                if part.status not in _OVER:
                    part.move("ABORTED")
            self.over.set()


class DataApi:
    """Statements and the thread that runs them, one at a time. The newest `KEPT_STATEMENTS` keep their results, in memory."""

    def __init__(self, replicator: Replicator) -> None:
        self._warehouse = Warehouse(replicator)
        self._statements: OrderedDict[str, Statement] = OrderedDict()
        self._tokens: dict[str, str] = {}
        self._sessions: dict[str, tuple[Session, float, Json]] = {}
        self._queue: queue.Queue[Statement | None] = queue.Queue()
        self._lock = threading.Lock()
        self._worker = threading.Thread(target=self._work, name="redshift", daemon=True)
        self._worker.start()

    def close(self) -> None:
        """Finish what is queued and close the scratch database."""
        self._queue.put(None)
        self._worker.join(10)
        self._warehouse.close()

    def call(self, operation: str, request: Json) -> Json:
        """Answer one operation.

        Raises:
            ApiError: as the service would.
        """
        operations = {
            "ExecuteStatement": self._execute_statement,
            "BatchExecuteStatement": self._batch_execute_statement,
            "DescribeStatement": self._describe_statement,
            "GetStatementResult": self._get_statement_result,
            "CancelStatement": self._cancel_statement,
            "ListStatements": self._list_statements,
        }
        if operation not in operations:
            raise ApiError("UnknownOperationException", f"the stand-in has no operation {operation}")
        return operations[operation](request)

    # -- operations -------------------------------------------------------------------------------------------------

    def _execute_statement(self, request: Json) -> Json:
        return self._submit(request, [_required(request, "Sql")])

    def _batch_execute_statement(self, request: Json) -> Json:
        if request.get("ExecutionMode", "TRANSACTION") != "TRANSACTION":
            raise ApiError("ValidationException", "the stand-in runs batches in the execution mode TRANSACTION only")
        return self._submit(request, _required(request, "Sqls"), batch=True)

    def _describe_statement(self, request: Json) -> Json:
        statement = self._find(request)
        statement.over.wait(request.get("WaitTimeSeconds", 0))
        described = statement.describe() | _where(statement.request)
        if statement.batch:
            described["SubStatements"] = [part.describe() for part in statement.batch]
        if parameters := statement.request.get("Parameters"):
            described["QueryParameters"] = parameters
        return described | ({"SessionId": id_} if (id_ := statement.request.get("SessionId")) else {})

    def _get_statement_result(self, request: Json) -> Json:
        statement = self._find(request)
        statement.over.wait(request.get("WaitTimeSeconds", 0))
        part = self._find_part(statement, request["Id"])
        columns = part.result.columns
        if part.status != "FINISHED" or columns is None:
            raise ApiError(
                "ResourceNotFoundException",
                "Query does not have result. Please check query status with DescribeStatement.",
            )
        first = _decode_page(request.get("NextToken"))
        rows = part.result.rows[first : first + PAGE_ROWS]
        answer: Json = {
            "ColumnMetadata": [_metadata(*column) for column in columns],
            "Records": [[_field(value) for value in row] for row in rows],
            "TotalNumRows": len(part.result.rows),
        }
        following = first + PAGE_ROWS
        return answer | ({"NextToken": str(following)} if following < len(part.result.rows) else {})

    def _cancel_statement(self, request: Json) -> Json:
        statement = self._find(request)
        with self._lock:
            if statement.status in _OVER:
                raise ApiError(
                    "ValidationException",
                    f"Could not cancel a query that is already in {statement.status} state with ID: {statement.id}",
                )
            if statement.status == "STARTED":
                self._warehouse.interrupt()
            statement.move("ABORTED")
        return {"Status": True}

    def _list_statements(self, request: Json) -> Json:
        wanted, name = request.get("Status", "ALL"), request.get("StatementName", "")
        first, size = _decode_page(request.get("NextToken")), request.get("MaxResults") or 100
        with self._lock:
            newest = list(reversed(self._statements.values()))
        found = [
            statement
            for statement in newest
            if wanted in ("ALL", statement.status) and statement.request.get("StatementName", "").startswith(name)
        ]
        listed = [
            {
                "Id": statement.id,
                "Status": statement.status,
                "CreatedAt": statement.created_at,
                "UpdatedAt": statement.updated_at,
                "IsBatchStatement": bool(statement.batch),
                "StatementName": statement.request.get("StatementName", ""),
                **(
                    {"QueryStrings": [p.sql for p in statement.batch]}
                    if statement.batch
                    else {"QueryString": statement.sql}
                ),
            }
            for statement in found[first : first + size]
        ]
        return {"Statements": listed} | ({"NextToken": str(first + size)} if first + size < len(found) else {})

    # -- submitting and running -------------------------------------------------------------------------------------

    def _submit(self, request: Json, statements: list[str], *, batch: bool = False) -> Json:
        request = dict(request)
        with self._lock:
            if known := self._tokens.get(request.get("ClientToken", "")):
                return self._submitted(self._statements[known])
            session = self._resolve_session(request)
            _check_parameters(request, statements)
            statement_id = str(uuid.uuid4())
            parts = [Part(f"{statement_id}:{number}", sql) for number, sql in enumerate(statements, 1)] if batch else []
            sql = "" if batch else statements[0]
            statement = Statement(statement_id, sql, request=request, batch=parts, session=session)
            self._statements[statement_id] = statement
            if token := request.get("ClientToken"):
                self._tokens[token] = statement_id
            while len(self._statements) > KEPT_STATEMENTS:
                _, oldest = self._statements.popitem(last=False)
                self._tokens.pop(oldest.request.get("ClientToken", ""), None)
        self._queue.put(statement)
        statement.over.wait(request.get("WaitTimeSeconds", 0))
        return self._submitted(statement)

    def _submitted(self, statement: Statement) -> Json:
        answer = {"Id": statement.id, "CreatedAt": statement.created_at, **_where(statement.request)}
        session_id = statement.request.get("SessionId")
        return answer | ({"SessionId": session_id} if session_id else {})

    def _resolve_session(self, request: Json) -> Session:
        """The session to run in: a kept one, a new one to keep, or one for this statement alone."""
        if session_id := request.get("SessionId"):
            session, until, where = self._sessions.get(session_id, (Session(), 0.0, {}))
            if until < time.time():
                raise ApiError("ResourceNotFoundException", "Session is not available.")
            if given := [name for name in ("Database", "WorkgroupName", "ClusterIdentifier") if name in request]:
                raise ApiError("ValidationException", f"{given[0]} must not be specified when SessionId is specified.")
            request.update(where)
        else:
            if bool(request.get("WorkgroupName")) == bool(request.get("ClusterIdentifier")):
                raise ApiError(
                    "ValidationException", "Exactly one of ClusterIdentifier and WorkgroupName must be specified."
                )
            _required(request, "Database")
            session = Session()
        if keep := request.get("SessionKeepAliveSeconds"):
            session_id = request.setdefault("SessionId", str(uuid.uuid4()))
            self._sessions[session_id] = (session, time.time() + keep, _where(request))
        return session

    def _work(self) -> None:
        while (statement := self._queue.get()) is not None:
            with self._lock:
                if statement.status == "ABORTED":
                    continue
                statement.move("STARTED")
                self._warehouse.expect_statement()
            try:
                self._run(statement)
                status, error = "FINISHED", None
            except StatementError as failure:
                status, error = "FAILED", str(failure)
            except Exception as failure:  # the worker must outlive whatever a statement does
                status, error = "FAILED", f"ERROR: internal error: {failure!r}"
            with self._lock:
                if statement.status != "ABORTED":
                    statement.move(status, error)

    def _run(self, statement: Statement) -> None:
        database = statement.request["Database"]
        if not statement.batch:
            statement.result = self._warehouse.execute(statement.sql, statement.parameters, statement.session, database)
            return
        sqls = [part.sql for part in statement.batch]

        def observe(number: int, outcome: Result | StatementError) -> None:
            part = statement.batch[number]
            if isinstance(outcome, Result):
                part.result = outcome
                part.move("FINISHED")
            else:
                part.move("FAILED", str(outcome))

        self._warehouse.execute_in_transaction(sqls, statement.parameters, statement.session, database, observe)

    def _find(self, request: Json) -> Statement:
        statement_id = _required(request, "Id")
        if not _STATEMENT_ID.fullmatch(statement_id):
            raise ApiError("ValidationException", f"id must satisfy regex pattern: ^{_STATEMENT_ID.pattern}$")
        with self._lock:
            statement = self._statements.get(statement_id.partition(":")[0])
        if statement is None:
            raise ApiError("ResourceNotFoundException", "Query does not exist.")
        return statement

    @staticmethod
    def _find_part(statement: Statement, part_id: str) -> Part:
        if part_id == statement.id and not statement.batch:
            return statement
        for part in statement.batch:
            if part.id == part_id:
                return part
        raise ApiError("ResourceNotFoundException", "Query does not exist.")


def _required(request: Json, name: str) -> Any:
    if not request.get(name):
        raise ApiError("ValidationException", f"{name} must be specified.")
    return request[name]


def _check_parameters(request: Json, statements: list[str]) -> None:
    given = {parameter["name"] for parameter in request.get("Parameters", [])}
    wanted = set().union(*(parameter_names(sql) for sql in statements))
    if undefined := sorted(wanted - given):
        names = ", ".join(undefined)
        raise ApiError("ValidationException", f"Parameters list is missing parameters. Missing parameters: [{names}]")
    if unused := sorted(given - wanted):
        names = ", ".join(unused)
        raise ApiError(
            "ValidationException", f"Parameters list contains unused parameters. Unused parameters: [{names}]"
        )


def _where(request: Json) -> Json:
    names = ("ClusterIdentifier", "WorkgroupName", "Database", "SecretArn", "DbUser")
    return {name: request[name] for name in names if request.get(name)}


def _decode_page(token: str | None) -> int:
    if token and not token.isdecimal():
        raise ApiError("ValidationException", "NextToken is invalid.")
    return int(token or 0)


def _metadata(name: str, kind: str, precision: int, scale: int) -> Json:
    numeric = kind.startswith(("int", "float", "numeric"))
    return {
        "name": name,
        "label": name,
        "typeName": kind,
        "precision": precision,
        "scale": scale,
        "length": 0,
        "nullable": 1,
        "isSigned": numeric,
        "isCurrency": False,
        "isCaseSensitive": kind == "varchar",
        "schemaName": "",
        "tableName": "",
    }


def _field(value: Any) -> Json:
    """A value as the Data API types it: numbers of exact decimals, dates and timestamps are strings."""
    if value is None:
        return {"isNull": True}
    if isinstance(value, bool):
        return {"booleanValue": value}
    if isinstance(value, int):
        return {"longValue": value}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": format(value, "f") if isinstance(value, Decimal) else str(value)}
