// Package doctor looks whether a machine can do what strata needs, and says what to type where it cannot.
//
// A *check* is one such question with its answer: ok; warn, something will not work or not well; fail, strata will not
// work. Every answer but ok carries the line that mends it.
//
// Invariants: a check changes nothing that outlives it, and one that cannot be made is a warning with the reason, never
// silence.
//
// This package must never know images or containers.
package doctor
