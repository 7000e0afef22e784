//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "strata: containers are a feature of the Linux kernel: run strata on Linux, or in a Linux virtual machine on this system")
	os.Exit(125)
}
