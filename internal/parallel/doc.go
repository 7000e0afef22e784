// Package parallel does many small things of one kind on all processors.
//
// It is for work that is short and certain to end, such as reading a thousand records: it heeds no context.
//
// This package must never know what the work is.
package parallel
