// Package beside finds strata's own programs, which lie beside the running one.
//
// An installation may keep them in ../libexec/strata instead, so that they are in nobody's $PATH. They are never looked for in
// $PATH: a program of that name there may be of another version.
//
// This package must never know what a program is for, nor start one.
package beside
