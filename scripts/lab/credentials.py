"""Whom the lab lets in, by the access key alone: secrets and signatures are not checked."""

from lab.errors import JSON, error

ACCOUNT = "123456789012"

# What a key with a meaning gets: the code in EC2, in JSON services, and in the others; and the words.
REFUSED = {
    "expired": (
        ("RequestExpired", "ExpiredTokenException", "ExpiredToken"),
        "The security token included in the request is expired",
    ),
    "invalid": (
        ("AuthFailure", "UnrecognizedClientException", "InvalidClientTokenId"),
        "AWS was not able to validate the provided access credentials",
    ),
    "denied": (("UnauthorizedOperation", "AccessDeniedException", "AccessDenied"), None),
}
# What is called in order to get credentials.
UNSIGNED = ("AssumeRoleWithWebIdentity", "AssumeRoleWithSAML")
STATUS = {"RequestExpired": 400, "AuthFailure": 401}


def refusal(call):
    """The error for a call with these credentials, or None. `denied` may read."""
    if call.access_key is None and call.action not in UNSIGNED:
        return error("ec2", "MissingAuthenticationToken", "The request must contain valid credentials.", 403)
    if call.access_key not in REFUSED or (call.access_key == "denied" and call.reads):
        return None
    codes, message = REFUSED[call.access_key]
    is_json = call.service in JSON
    code = codes[0 if call.service == "ec2" else 1 if is_json else 2]
    if message is None:
        action = f"{call.service}:{call.action}"
        message = (
            f"User: arn:aws:iam::{ACCOUNT}:user/denied is not authorized to perform: {action} "
            f"because no identity-based policy allows the {action} action"
        )
        if call.service == "ec2":
            message = f"You are not authorized to perform this operation. {message}"
    return error(call.service, code, message, STATUS.get(code, 400 if is_json else 403))
