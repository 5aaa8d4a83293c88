# shellcheck shell=bash disable=SC2034,SC2154,SC2164 # read by a script that sets -e and uses what is set here
# The old versions of `scripts/programs --older`: which they are, and where each comes from. Read by that script,
# whose functions it uses and whose list of what is wanted it replaces.

# Each as old as it can be had where the official releases cannot be reached; of Consul, one for each time
# that what it accepts has changed.
OLD_CONSUL=1.8.7
OLDER_CONSUL=1.0.0
OLDEST_CONSUL=0.7.5
OLD_PROMETHEUS=2.42.0
OLD_NODE_EXPORTER=1.5.0
OLD_CONSUL_TEMPLATE=0.10.0

wanted=("consul=$OLD_CONSUL" "consul=$OLDER_CONSUL" "consul=$OLDEST_CONSUL" "prometheus=$OLD_PROMETHEUS"
    "node_exporter=$OLD_NODE_EXPORTER" "consul-template=$OLD_CONSUL_TEMPLATE")

build_old() { # build_old PROGRAM=VERSION OUT
    case $1 in
        "consul=$OLD_CONSUL") from_debian "$2" $OLD_CONSUL bullseye consul consul ;;
        "consul=$OLDER_CONSUL" | "consul=$OLDEST_CONSUL") build_old_consul "$2" "${1#*=}" ;;
        "consul-template=$OLD_CONSUL_TEMPLATE") build_old_consul_template "$2" ;;
        "prometheus=$OLD_PROMETHEUS") build_old_prometheus "$2" ;;
        "node_exporter=$OLD_NODE_EXPORTER")
            from_debian "$2" $OLD_NODE_EXPORTER bookworm prometheus-node-exporter \
                node_exporter=prometheus-node-exporter ;;
    esac
}

# --- From Go modules.

build_old_prometheus() { # build_old_prometheus OUT
    # The module's version of 2.42.0 is v0.42.0. Debian's 2.42 does not know consul_sd_configs. The replacements
    # are those of its own go.mod, where they hold only for itself.
    build_prometheus "$1" $OLD_PROMETHEUS "v0.${OLD_PROMETHEUS#*.}" <<'MOD'

replace (
	k8s.io/klog => github.com/simonpasquier/klog-gokit v0.3.0
	k8s.io/klog/v2 => github.com/simonpasquier/klog-gokit/v3 v3.0.0
)
MOD
}

build_old_consul_template() { # build_old_consul_template OUT
    say "building Consul Template $OLD_CONSUL_TEMPLATE (about half a minute)"
    module old-consul-template
    # It is older than go.mod, so nothing says what it was built with. Consul's client is
    # the one of its time; the others are the first versions that have a number.
    cat >go.mod <<MOD
module build.invalid/old-consul-template

go 1.16

require (
	github.com/hashicorp/consul v0.5.2
	github.com/hashicorp/consul-template v$OLD_CONSUL_TEMPLATE
	github.com/hashicorp/go-multierror v1.0.0
	github.com/hashicorp/go-syslog v1.0.0
	github.com/hashicorp/hcl v1.0.0
	github.com/hashicorp/logutils v1.0.0
	github.com/hashicorp/vault/api v1.0.4
	github.com/mitchellh/mapstructure v1.1.2
	gopkg.in/yaml.v2 v2.4.0
)
MOD
    go build -mod=mod -ldflags "-s -w" -o consul-template github.com/hashicorp/consul-template >build.log 2>&1 || {
        tail -20 build.log >&2
        return 1
    }
    zipped "$1" consul-template
}

build_old_consul() { # build_old_consul OUT VERSION
    say "building Consul $2 (about 3 minutes)"
    module "consul-$2"
    # They are older than go.mod. What the first Consul with one was built with still fits them, but for two
    # that are gone: a client of Atlas, which is no more, and a function that breaks lines.
    local pins dir=github.com/hashicorp/consul
    pins=$(go mod download -json $dir@v1.5.0 | python3 -c 'import json, sys; print(json.load(sys.stdin)["GoMod"])')
    mkdir scada text
    cat >go.mod <<MOD
module build.invalid/consul

go 1.16

$(sed -n '/^require (/,/^)/p' "$pins" | grep -v "$dir/")

require (
	$dir v$2
	github.com/hashicorp/scada-client/scada v0.0.0
	github.com/tonnerre/golang-text v0.0.0
)

replace (
	github.com/hashicorp/scada-client/scada => ./scada
	github.com/tonnerre/golang-text => ./text
)
MOD
    # Of this one only the latest says itself what it needs.
    [ "$2" != $OLDEST_CONSUL ] || printf '\nrequire github.com/fsouza/go-dockerclient v1.13.3\n' >>go.mod
    echo "module github.com/hashicorp/scada-client/scada" >scada/go.mod
    cat >scada/scada.go <<'GO'
package scada

import (
	"errors"
	"io"
	"net"
)

type AtlasConfig struct{ Endpoint, Infrastructure, Token string }

type Config struct {
	Service, Version, ResourceType string
	Meta                           map[string]string
	Atlas                          AtlasConfig
}

type Provider struct{}

func (*Provider) Shutdown() {}

func NewHTTPProvider(*Config, io.Writer) (*Provider, net.Listener, error) {
	return nil, nil, errors.New("Atlas is no more")
}
GO
    echo "module github.com/tonnerre/golang-text" >text/go.mod
    cat >text/text.go <<'GO'
package text

import "strings"

// Wrap puts the words of s into lines of at most width bytes.
func Wrap(s string, width int) string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return strings.Join(append(lines, line), "\n")
}
GO
    # Without a description the version would be called a development's.
    local set="-X $dir/version.Version=$2 -X $dir/version.VersionPrerelease= -X $dir/version.GitDescribe=v$2"
    go build -mod=mod -ldflags "-s -w $set" -o consul $dir >build.log 2>&1 || {
        tail -20 build.log >&2
        return 1
    }
    zipped "$1" consul
}

# --- From Debian's packages.

from_debian() { # from_debian OUT VERSION SUITE PACKAGE EXECUTABLE...: EXECUTABLE[=its name in the package]
    local out=$1 version=$2 suite=$3 package=$4 dir=$built/src/debian-$4 one said
    local -a named=()
    shift 4
    say "taking $package $version from Debian's $suite"
    rm -rf "$dir" && mkdir -p "$dir" && cd "$dir"
    if ! { private_apt "$suite" update && private_apt "$suite" download "$package"; } >apt.log 2>&1; then
        tail -5 apt.log >&2
        return 1
    fi
    dpkg-deb --extract "$package"_*.deb unpacked
    for one in "$@"; do
        cp "unpacked/usr/bin/${one#*=}" "${one%=*}"
        named+=("${one%=*}")
    done
    said=$("./${named[0]}" --version 2>&1) || true
    case $said in
        *[\ v]"$version"[!0-9.]*) ;;
        *) say "Debian's $package in $suite is another version than $version: ${said%%$'\n'*}"; return 1 ;;
    esac
    case $out in
        *.zip) zipped "$out" "${named[0]}" ;;
        *) tarball "$out" "${named[@]}" ;;
    esac
    rm -rf "$dir"
}

# apt with a state of its own, so that the machine's sources and lists stay as they are. It checks the
# signature of the suite and the sums of what it downloads.
private_apt() { # private_apt SUITE ARGUMENT...
    local suite=$1 mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    shift
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || {
        echo "this machine's apt names no Debian mirror (or has no lists yet: apt-get update)"
        return 1
    }
    mkdir -p apt/lists/partial apt/cache/archives/partial
    : >apt/status
    echo "deb [signed-by=$keyring] $mirror $suite main" >apt/sources.list
    apt-get -q -o "Dir::Etc::SourceList=$PWD/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
        -o "Dir::State::Lists=$PWD/apt/lists" -o "Dir::State::Status=$PWD/apt/status" \
        -o "Dir::Cache=$PWD/apt/cache" -o APT::Sandbox::User= -o APT::Update::Error-Mode=any \
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "$@"
}

debian_mirror() { # the one that this machine's own apt uses; a mirror has all suites
    # shellcheck disable=SC2016 # apt's variables, not the shell's
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT) $(LABEL)' 'Created-By: Packages' 2>/dev/null |
        awk '$2 !~ /-/ && $3 == "main" && $4 == "Debian" && NF == 4 && !found++ { print $1 }'
}

# --- From the official releases, for versions that no spec names.

official() { # official OUT PROGRAM=VERSION
    local name base sums program=${2%=*} version=${2#*=} dir=$built/src/official-${2%=*}
    name=$(basename "$1")
    case $program in
        consul*) base=https://releases.hashicorp.com/$program/$version sums=${program}_${version}_SHA256SUMS ;;
        *) base=https://github.com/prometheus/$program/releases/download/v$version sums=sha256sums.txt ;;
    esac
    say "fetching $name"
    rm -rf "$dir" && mkdir -p "$dir" && cd "$dir" &&
        curl -fsSL --retry 3 -O "$base/$sums" -O "$base/$name" &&
        grep -F "  $name" "$sums" | sha256sum --check --quiet &&
        mv "$name" "$1" && rm -rf "$dir"
}
