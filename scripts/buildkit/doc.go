// Package buildkit builds BuildKit's programs from their module and runs a daemon of its own, for the programs that
// compare strata with it. It knows nothing of strata.
package buildkit
