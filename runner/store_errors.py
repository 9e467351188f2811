"""What object stores say when they do not do what is asked of them, in our words."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from reference.published import without_user

from .messages import cut

ATTEMPTS_VARIABLE = "AWS_MAX_ATTEMPTS"  # as Amazon's own programs call it

UNSEEN = "Failed to flush response stream"
AWS = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))? during (\w+) operation(?:: (.*))?")
GOOGLE = re.compile(r"google::cloud::Status\((\w+): (.*)")
CODE = re.compile(r"ExceptionName: (\w+)|<Code>(\w+)</Code>")
HTTP_STATUS = re.compile(r"HTTP status (\d+)|http_status_code=(\d+)")

DENIED = re.compile(
    r"ACCESS_?DENIED|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|SIGNATUREDOESNOTMATCH|"
    r"INVALIDACCESSKEY|INVALID_CLIENT_TOKEN|UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION|"
    r"EXPIRED_?TOKEN|INVALID_?TOKEN|REQUEST_EXPIRED|INVALID_SIGNATURE|PERMISSION_DENIED|"
    r"UNAUTHENTICATED"
)
BUSY = re.compile(
    r"SLOW_?DOWN|THROTTL|SERVICE_UNAVAILABLE|INTERNAL_(FAILURE|ERROR)|REQUEST_LIMIT|UNAVAILABLE|"
    r"RESOURCE_EXHAUSTED"
)
NETWORK = re.compile(r"NETWORK_CONNECTION|REQUEST_?TIME|DEADLINE_EXCEEDED|HOST_NOT_FOUND")
CURL = re.compile(r"curlCode: \d+, ([^;]*)|CURL error \[\d+\]=((?:(?! error_info)[^,()])*)")
NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|NOSUCHBUCKET")
MISSING = re.compile(r"NO_SUCH_KEY|NOSUCHKEY|RESOURCE_NOT_FOUND|NOT_FOUND|NO_SUCH_UPLOAD")
ELSEWHERE = re.compile(r"PERMANENT_?REDIRECT|AUTHORIZATION_?HEADER_?MALFORMED|HTTP status 301")

AWS_KEYS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
AWS_TRIES = f"attempts with {ATTEMPTS_VARIABLE}"
GOOGLE_TRIES = "time with ?retry_limit_seconds=N"
GOOGLE_KEYS = "Set GOOGLE_APPLICATION_CREDENTIALS to a file of credentials"


KINDS = (  # what the code says, which statuses say the same, and what to tell
    (
        ELSEWHERE,
        {"301"},
        "the bucket lies in another region ({code}). Set AWS_REGION, or write ?region=NAME behind "
        "the address.",
    ),
    (
        DENIED,
        {"401", "403"},
        "access is denied ({code}); expected credentials that may do this. {keys}, and see what "
        "the bucket allows them.",
    ),
    (
        NO_BUCKET,
        set[str](),
        "no such bucket; expected one that is there. Check its name, or make it first.",
    ),
    (
        NETWORK,
        set[str](),
        "the connection failed ({code}), again and again. Check the network and the endpoint, and "
        "run again.",
    ),
    (
        BUSY,
        {"429", "500", "502", "503", "504"},
        "the store is busy ({code}) and remained so. Run again later, or allow it more {more}.",
    ),
    (MISSING, {"404"}, "no such file. Check the path."),
)


def reason(error: BaseException) -> str:
    """What an error of the disk or of a store says, in our words and with what to do."""
    said = str(error)
    if (found := AWS.search(said)) or (found := GOOGLE.search(said)):
        return _of_a_store(said, found)
    if isinstance(error, OSError) and error.strerror:
        if error.errno is not None and "Detail:" in error.strerror:  # Arrow's
            return f"{os.strerror(error.errno)}. Check the path."
        return f"{error.strerror}. Mend that and run again."
    return cut(without_user(said))


def _of_a_store(said: str, found: re.Match[str]) -> str:
    keys, more = (GOOGLE_KEYS, GOOGLE_TRIES) if found.re is GOOGLE else (AWS_KEYS, AWS_TRIES)
    name, status = _first(CODE, said) or found[1], _first(HTTP_STATUS, said)
    code = f"HTTP status {status}" if name == "UNKNOWN" else name
    upper, curl = f"{found[1]} {name}".upper(), _first(CURL, said)
    if curl:
        code = curl.strip().lower()
    for pattern, statuses, text in KINDS:
        if pattern.search(upper) or status in statuses or (curl and pattern is NETWORK):
            return text.format(code=code, keys=keys, more=more)
    return f"{cut(without_user(said))}. Check the address, and run again."


def _first(pattern: re.Pattern[str], said: str) -> str:
    """What the first group that took part in a match holds."""
    found = pattern.search(said)
    return next((group for group in found.groups() if group), "") if found else ""


class StoreError(OSError):
    """An object store cannot do what is asked of it; the message says what to do."""


class UnseenError(StoreError):
    """One of which Arrow could not see what it was: see `StoreFile`."""


@contextmanager
def plainly(name: str) -> Iterator[None]:
    """Arrow's errors as Python words them, and a store's in our words.

    Raises
    ------
    OSError
        With `strerror` and `filename` where it is one of the system's, or a `StoreError`.
    """
    try:
        yield
    except StoreError:
        raise
    except OSError as e:
        if UNSEEN in str(e):
            raise UnseenError(reason(e)) from None
        if e.errno is None or (not isinstance(e, FileNotFoundError) and GOOGLE.search(str(e))):
            raise StoreError(reason(e)) from None
        raise type(e)(e.errno, os.strerror(e.errno), name) from None
    except pa.ArrowInvalid as e:  # of a path
        raise StoreError(reason(e)) from None
