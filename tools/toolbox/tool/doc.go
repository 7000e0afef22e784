// Package tool holds the commands of strata's toolbox that are written here: those that u-root lacks, and those whose
// common flags u-root's do not know. Each is one file; what a Dockerfile or a shell script of ordinary habits calls is the
// measure, not the whole of POSIX.
//
// A command gets a [Proc] and nothing else of its surroundings but the file system, gives its complaint back as an error,
// and ends with status 1 if it complained. It must never call os.Exit, so that a test can call it like a function.
package tool
