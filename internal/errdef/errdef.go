// Package errdef names the classes of error that strata tells apart.
//
// A function that fails wraps one class with %w and names the noun:
//
//	fmt.Errorf("image %q: %w", name, errdef.ErrNotFound)
//
// Callers decide by class with errors.Is, never by text. What a person should type next is said once, at the command
// line; a lower package that alone knows the mending line (the corrected Dockerfile line, the missing program's package)
// attaches it with [WithHint].
//
// This package must never know anything above it.
package errdef

import "errors"

// The classes. Each error that leaves a package wraps at most one of them.
var (
	// ErrNotFound: the named thing does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name is taken.
	ErrExists = errors.New("already exists")
	// ErrInvalid: the input breaks a rule of its format; trying again cannot help.
	ErrInvalid = errors.New("invalid")
	// ErrConflict: the thing is in a state, or in a use, that forbids the operation.
	ErrConflict = errors.New("conflict")
	// ErrCorrupt: stored or received bytes are not what their digest or their record says.
	ErrCorrupt = errors.New("corrupt")
	// ErrDenied: permission is lacking.
	ErrDenied = errors.New("permission denied")
	// ErrUnsupported: this machine or this build of strata cannot do it.
	ErrUnsupported = errors.New("not supported")
	// ErrUnavailable: something that is needed is not there now: a program, a network, a server.
	ErrUnavailable = errors.New("unavailable")
	// ErrLimit: a bound on foreign input was exceeded.
	ErrLimit = errors.New("limit exceeded")
)

// WithHint attaches the line that mends err. The text of err stays as it is; [Hint] gives the line back.
// A nil err stays nil.
func WithHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hinted{err, hint}
}

// Hint returns the outermost mending line attached to err, or "".
func Hint(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	return ""
}

type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }
