# What an instance's own metadata tell, by IMDSv2 alone: our instances answer nobody else. It needs $work, a folder that
# only root, or whoever runs this, can read.
metadata=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}
metadata=${metadata%/}/latest
token=''

has() { command -v "$1" >/dev/null 2>&1; }

# within SECONDS PROGRAM …: runs it, and ends it after so long where there is a `timeout` that takes its time as
# everybody's does.
within() {
    seconds=$1
    shift
    if timeout 5 true 2>/dev/null; then
        timeout "$seconds" "$@"
    else
        "$@"
    fi
}

# shown TEXT: as much of somebody else's text as a line of a log can bear.
shown() { printf '"%s"' "$(printf %s "$1" | tr -cd '\040-\176' | cut -c1-60)"; }

# like TEXT PATTERN: is it one line, and wholly that?
like() {
    case $1 in *'
'*) return 1 ;; esac
    [ -n "$1" ] && printf '%s\n' "$1" | grep -Eqx -e "$2"
}

# fetch METHOD PATH: the answer's body comes to $work/body, its HTTP status to $status (000: there was no answer). No
# proxy is asked. The token stands in no command line.
fetch() {
    : >"$work/body"
    if [ "$1" = PUT ]; then
        header='X-aws-ec2-metadata-token-ttl-seconds: 300'
    else
        header="X-aws-ec2-metadata-token: $token"
    fi
    if has curl; then
        status=$(printf 'header = "%s"\n' "$header" |
            curl -q -s -m 5 --noproxy '*' -K - -X "$1" -o "$work/body" -w '%{http_code}' "$metadata/$2" 2>/dev/null) ||
            status=000
    else
        # GNU's. Busybox' has no method but GET, and so no way to a token.
        printf 'header = %s\n' "$header" >"$work/wgetrc"
        WGETRC=$work/wgetrc wget -S --no-proxy -T 5 -t 1 --max-redirect=0 -O "$work/body" --method "$1" "$metadata/$2" \
            >/dev/null 2>"$work/headers" || :
        status=$(sed -n 's|^ *HTTP/[0-9.]* \([0-9][0-9][0-9]\).*|\1|p' "$work/headers" | tail -n 1)
        status=${status:-000}
    fi
}

# Sets $token, or says in `reason` why there is none.
open_metadata() {
    has curl || has wget || { reason='neither curl nor wget is there to ask for metadata: install one'; return 1; }
    fetch PUT api/token
    reason="the instance's metadata at $metadata give no token (status $status)"
    [ "$status" = 200 ] || return 1
    token=$(cat "$work/body")
    like "$token" '[A-Za-z0-9_=+/-]+'
}

# tell PATH PATTERN: sets $said to what the metadata have there, or says in `reason` why not.
tell() {
    fetch GET "meta-data/$1"
    reason="the instance's metadata at $metadata did not tell $1 (status $status)"
    [ "$status" = 200 ] || return 1
    said=$(tr '\000' '?' <"$work/body")
    like "$said" "$2" && return
    reason="the instance's metadata tell $(shown "$said") as $1, which is none"
    return 1
}

instance_form='i-[0-9a-f]{8,17}'
