// Package cli is strata's command line: one file per verb, each from flags to one engine call to rendering.
//
// The grammar is docker's: names, flags, templates, exit codes. Standard output carries the result only; progress, notes
// and hints go to standard error. An error is one line that says what happened and why; the line below it, if there is
// one, is what to type next.
//
// Exit codes: the container's own; 125 for a wrong flag, and for whatever keeps run from running; 126 and 127 for a command in a
// container that cannot be executed or is not found (run, start, exec); 1 for an operation that failed, and for a wrong number of
// arguments; 64 for a template that is none (inspect, info, version, events); 3 for a check that did not hold; 130 when interrupted.
package cli
