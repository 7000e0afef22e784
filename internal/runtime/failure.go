package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/program"
)

// StartError says why a container's process could not be started.
type StartError struct {
	// Exit is docker's exit status for it: 127 when the program is not there, 126 when it is and cannot be executed, 125
	// for all else.
	Exit int
	// Message is the cause alone, in docker's words: `exec: "x": executable file not found in $PATH`.
	Message string
	// Raw is what the runtime said, whole.
	Raw string
	// Problem is what the container's files tell about it, where somebody looked; nil else.
	Problem *program.Problem `json:",omitempty"`
}

func (e *StartError) Error() string {
	if e.Problem != nil && e.Problem.Why != "" {
		return e.Message + ": " + e.Problem.Why
	}
	return e.Message
}

// explain keeps in err what examine finds about the program that a runtime could not execute.
func explain(err error, examine func() *program.Problem) {
	var e *StartError
	if errors.As(err, &e) && e.Exit != 125 && e.Problem == nil {
		e.Problem = examine()
	}
}

// maxLog bounds what is read of a runtime's log: the last message of its last run.
const maxLog = 256 << 10

// failure makes an error of what the runtime logged; err is how its program ended.
func (c *call) failure(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) { // the program itself did not start
		return &StartError{Exit: 125, Message: fmt.Sprintf("runtime %s: %v", c.r.Path, err), Raw: err.Error()}
	}
	raw := lastError(c.logFile)
	if raw == "" {
		raw = fmt.Sprintf("runtime %s: %v, and it said nothing", c.r.Path, err)
	}
	return newStartError(raw)
}

// lastError gives the last error that a runtime wrote into its JSON log.
func lastError(logFile string) string {
	f, err := os.Open(logFile)
	if err != nil {
		return ""
	}
	defer f.Close()
	log, err := io.ReadAll(io.LimitReader(f, maxLog))
	if err != nil {
		return ""
	}
	last := ""
	for line := range bytes.Lines(log) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			last = entry.Msg
		}
	}
	return strings.TrimSpace(last)
}

func newStartError(raw string) *StartError {
	e := &StartError{Exit: 125, Message: clean(raw), Raw: raw}
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(e.Message, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("mounting "): // the mount's source or place, not the program
	case has("chdir ") && !has(unix.EACCES.Error(), "Permission denied"): // the working directory is not there
	case has("executable file not found", "executable file `", unix.ENOENT.Error()):
		e.Exit = 127
	case has(unix.EACCES.Error(), "Permission denied", unix.EISDIR.Error(), unix.ENOEXEC.Error()):
		e.Exit = 126
	}
	return e
}

// clean strips the runtimes' layers of where it happened from the message.
func clean(msg string) string {
	for again := true; again; {
		again = false
		for _, prefix := range []string{
			"runc run failed: ", "runc create failed: ", "exec failed: ", "unable to start container process: ",
			"error during container init: ",
		} {
			if rest, ok := strings.CutPrefix(msg, prefix); ok {
				msg, again = rest, true
			}
		}
	}
	return msg
}
