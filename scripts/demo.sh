#!/bin/sh
# The main job, as a newcomer would type it: build an image, run it, look at it. Uses the ordinary store of whoever runs it.
set -eu

cd "$(dirname "$0")/.."
PATH="$PWD/bin:$PATH"

say() { # prints a command, then runs it
	printf '\n$ %s\n' "$*"
	"$@"
}

say strata build -t hello examples/hello
say strata run --rm hello
say strata images
say strata history hello

cat <<EOF

Three things to try (bin/strata is the program; put $PWD/bin into your PATH):
  strata run --rm -it strata.internal/toolbox sh      a shell in a container
  strata build -t hello --build-arg WHO=you examples/hello && strata run --rm hello
  strata build -t web examples/web && strata run --rm -p 8080:8080 web      then: curl http://localhost:8080/
EOF
