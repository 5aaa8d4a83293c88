"""Errors as each AWS service words them."""

import json
import uuid
from xml.sax.saxutils import escape

# Services that answer in JSON; the others answer in XML.
JSON = {"ssm": "application/x-amz-json-1.1", "secretsmanager": "application/x-amz-json-1.1"}


def error(service, code, message, status):
    """(status, headers, body) of an error."""
    request = str(uuid.uuid4())
    if service in JSON:
        body = json.dumps({"__type": code, "message": message})
        return status, [("Content-Type", JSON[service]), ("x-amzn-RequestId", request)], body.encode()
    code, message = escape(code), escape(message)
    if service == "ec2":
        body = (
            f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
            f"<RequestID>{request}</RequestID></Response>"
        )
    else:
        kind = "Sender" if status < 500 else "Receiver"
        body = (
            f"<ErrorResponse><Error><Type>{kind}</Type><Code>{code}</Code><Message>{message}</Message></Error>"
            f"<RequestId>{request}</RequestId></ErrorResponse>"
        )
    body = '<?xml version="1.0" encoding="UTF-8"?>\n' + body
    return status, [("Content-Type", "text/xml;charset=UTF-8"), ("x-amzn-requestid", request)], body.encode()


def code_of(body):
    """The code in an error's body, for the log."""
    text = body[:4000].decode(errors="replace")
    if text.lstrip().startswith("{"):
        try:
            return json.loads(body).get("__type", "").rpartition("#")[2] or None
        except ValueError:
            return None
    _, _, rest = text.partition("<Code>")
    return rest.partition("</Code>")[0] or None
