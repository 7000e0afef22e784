// Package floors holds nothing but the test that holds the floors: a package imports packages of lower floors only, no
// peers and nothing upward, and what starts quickly stays free of what would weigh it down.
//
// The test reads import lines, so it knows no build tags and needs no compiler. The table of floors in it is the one place
// where a new package is given its floor; .golangci.yml repeats the rules for the editor.
package floors
