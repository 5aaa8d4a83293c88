"""Whom the lab lets in, by the access key alone: secrets and signatures are not checked."""

from lab.errors import error

ACCOUNT = "123456789012"
KEY = SECRET = "lab"


def refusal(call):
    """The error for a call with these credentials, or None. Keys with a meaning: expired, invalid, denied."""
    service, key = call.service, call.access_key
    if key == "expired":
        if service == "ec2":
            return error(service, "RequestExpired", "Request has expired.", 400)
        code = "ExpiredTokenException" if service == "ssm" else "ExpiredToken"
        return error(service, code, "The security token included in the request is expired", 403 if service != "ssm" else 400)
    if key == "invalid":
        if service == "ec2":
            message = "AWS was not able to validate the provided access credentials"
            return error(service, "AuthFailure", message, 401)
        code = "UnrecognizedClientException" if service == "ssm" else "InvalidClientTokenId"
        return error(service, code, "The security token included in the request is invalid.", 403 if service != "ssm" else 400)
    if key == "denied" and not call.reads:
        user = f"arn:aws:iam::{ACCOUNT}:user/denied"
        what = f"User: {user} is not authorized to perform: {service}:{call.action}"
        if service == "ec2":
            message = f"You are not authorized to perform this operation. {what} because no identity-based policy allows the ec2:{call.action} action"
            return error(service, "UnauthorizedOperation", message, 403)
        code = "AccessDeniedException" if service == "ssm" else "AccessDenied"
        return error(service, code, f"{what} because no identity-based policy allows the {service}:{call.action} action", 403 if service != "ssm" else 400)
    return None
