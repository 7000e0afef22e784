package render

import (
	"fmt"
	"io"
	"strings"
)

const rule = "------"

// FailedStep prints, after a display was closed, the step at which a build ended:
//
//	------
//	 > [build 2/4] RUN false:
//	the last lines of its output
//	------
//	Dockerfile:3
//	--------------------
//	   1 |     FROM x
//	   3 | >>> RUN false
//	--------------------
//
// The excerpt, from the place on, comes from who knows the Dockerfile; "" leaves it out. The output is made clean, its
// rewritten lines as they stood last. The error itself is for [Error].
func FailedStep(w io.Writer, name string, logTail []byte, excerpt string) {
	fmt.Fprintf(w, "%s\n > %s:\n", rule, oneLine(name))
	var reader lineReader
	show := func(line string) { fmt.Fprintln(w, Clean(line)) }
	reader.add(logTail, show)
	reader.end(show)
	fmt.Fprintln(w, rule)
	if excerpt = strings.TrimRight(Clean(excerpt), "\n"); excerpt != "" {
		fmt.Fprintln(w, excerpt)
	}
}
