// Command strata-toolbox is the multi-call program of the built-in base images. Built by itself, as for its tests, it has the
// commands that are written here; tools/toolbox/build puts u-root's beside them.
package main

import (
	"os"

	"strata.internal/toolbox/tool"
)

func main() { os.Exit(tool.Main(tool.Others{})) }
