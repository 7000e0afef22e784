//go:build !cgo

package main

import (
	"fmt"
	"os"
)

// Libcontainer enters namespaces in C, before Go starts.
func main() {
	fmt.Fprintln(os.Stderr, "strata-step: built without cgo: it can do nothing")
	os.Exit(1)
}
