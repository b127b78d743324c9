"""What can go wrong with a migration; each message says what was expected, what was found, what to do."""

from __future__ import annotations


class MigrationError(Exception):
    """Any of them. The tenant is served as before, unless the message says otherwise."""


class BadRequest(MigrationError, ValueError):
    """What was asked for can't be done; nothing was changed."""


class TenantUnknown(BadRequest):
    """There is no such tenant."""


class MigrationUnknown(BadRequest):
    """There is no such migration."""


class TenantBusy(BadRequest):
    """The tenant is in another migration."""


class PreflightFailed(BadRequest):
    """The migration must not begin: a quota, a missing source, items in the target, …; the message names all that was found."""


class MigrationConflict(MigrationError):
    """The migration is in another state than a step expected, or another writer was faster. Nothing was written."""


class TurnTaken(MigrationError):
    """Somebody else does this piece of work now."""


class TurnLost(MigrationError):
    """This piece of work is somebody else's by now: what this writer had not written yet is not written."""


class SchemaDrift(MigrationError):
    """Items have attributes or types that the target's model does not allow."""


class StreamTrimmed(MigrationError):
    """Changes are gone from a stream before they were read (it keeps 24 hours), or would be: the copy must begin anew."""


class TargetBusy(MigrationError):
    """The target takes no writes for too long. What was copied stays; a retry goes on from there."""


class NotVerified(MigrationError):
    """Source and target differ, or the verification has expired."""


class CutoverFailed(MigrationError):
    """Over budget, or not equal in the fence: the fence is open again, and the tenant is where it was."""


class ProvisioningFailed(MigrationError):
    """Something of the target could not be made, or isn't as it has to be."""


class IsolationBroken(MigrationError):
    """A policy allows another tenant's items, or forbids the tenant its own."""


class IdentityIncomplete(MigrationError):
    """Users, groups or claims of the target differ from the source's."""


class EvidenceInvalid(MigrationError):
    """The archive isn't there, isn't locked, or isn't what was signed; nothing was deleted."""


class ApprovalRefused(MigrationError):
    """A person has refused, or nobody has answered in time."""
