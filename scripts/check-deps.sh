#!/bin/sh
# Checks what building strata needs, says each lack in one line with the command that mends it. As root where apt-get
# is, installs what is missing. Without a C compiler or libseccomp, an installed runc or crun serves as the runtime.
#
# With --runtime, only tells whether bin/strata-runc can be built, with --zstd whether bin/strata-zstd can: exit status 0 yes,
# 1 no.
set -u

packages='gcc make pkg-config libseccomp-dev libc6-dev git ca-certificates'
failed=0

lack() { # what, mending line
	echo "missing: $1; mend it with: $2" >&2
	failed=1
}

version_less() { # A B: A is lower than B
	[ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -t. -k1,1n -k2,2n -k3,3n | head -n 1)" = "$1" ]
}

have() { command -v "$1" >/dev/null 2>&1; }

# The static library is what counts: the runtime is linked statically.
have_seccomp() {
	have gcc && have pkg-config && pkg-config --exists libseccomp &&
		echo 'int main(void){return 0;}' | gcc -static -x c - -o /dev/null -lseccomp 2>/dev/null
}

# So is strata-zstd.
have_zstd() {
	have gcc && printf '#include <zstd.h>\nint main(void){return ZSTD_versionNumber() < 10407;}' |
		gcc -static -x c - -o /dev/null -lzstd 2>/dev/null
}

case ${1-} in
--runtime)
	have_seccomp
	exit
	;;
--zstd)
	have_zstd
	exit
	;;
esac

if [ "$(uname -s)" != Linux ]; then
	echo "strata runs on Linux only (this is $(uname -s)): use a Linux machine or a virtual one" >&2
	exit 1
fi

kernel=$(uname -r | sed 's/[^0-9.].*//; s/\.$//')
if version_less "$kernel" 5.11; then
	lack "Linux 5.11 or later (this is $(uname -r))" "an upgrade of the distribution's kernel"
fi

want=$(sed -n 's/^go //p' "$(dirname "$0")/../go.mod")
if ! have go; then
	lack "Go $want" "Go's own download, unpacked to /usr/local, with /usr/local/go/bin in \$PATH"
else
	# In the module's directory the go command may have switched to a newer toolchain that it fetched: that serves.
	got=$(cd "$(dirname "$0")/.." && go env GOVERSION 2>/dev/null | sed 's/^go//; s/[^0-9.].*//')
	if [ -z "$got" ] || version_less "$got" "$want"; then
		lack "Go $want (this is ${got:-older, and cannot fetch a newer one})" "Go's own download, or: go env -w GOTOOLCHAIN=auto"
	fi
fi

install() { # packages
	[ "$(id -u)" = 0 ] && have apt-get || return 0
	echo "installing: $*" >&2
	log=$(mktemp)
	# Not `make`'s jobserver, no questions.
	if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1; then
		tail -n 5 "$log" >&2
	fi
	rm -f "$log"
}

if ! have gcc || ! have_seccomp; then
	install $packages
fi
# It can be done without: once it could not be had it is not asked for again, until make clean.
no_zstd=$(dirname "$0")/../bin/.no-zstd
if ! have_zstd && [ ! -e "$no_zstd" ]; then
	install libzstd-dev
	have_zstd || { mkdir -p "${no_zstd%/*}" && touch "$no_zstd"; }
fi
if ! have_seccomp; then
	if have runc || have crun; then
		echo "note: no C compiler with a static libseccomp here: the installed $(command -v runc || command -v crun) serves as the runtime" >&2
	else
		for tool in gcc pkg-config; do
			have $tool || lack "$tool" "sudo apt-get install $tool   (Fedora: sudo dnf install $tool)"
		done
		lack "libseccomp (static, with headers)" "sudo apt-get install libseccomp-dev   (Fedora: sudo dnf install libseccomp-static), or install runc or crun"
	fi
fi
if ! have_zstd; then
	echo "note: no C compiler with a static libzstd here: Go's library compresses layers in zstd, which takes about a third longer; mend it with: sudo apt-get install libzstd-dev" >&2
fi
exit $failed
