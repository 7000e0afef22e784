package tool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"mvdan.cc/sh/v3/interp"
)

// command runs a program as next does, with the messages and exit statuses that shells have for one that cannot be run: 127
// for what is not there, 126 for what is and cannot be executed. A text without a #! line is run as a script.
func command(next interp.ExecHandlerFunc) interp.ExecHandlerFunc {
	return func(ctx context.Context, args []string) error {
		hc := interp.HandlerCtx(ctx)
		path, err := interp.LookPathDir(hc.Dir, hc.Env, args[0])
		if err == nil {
			err = next(ctx, args)
		}
		if _, ended := interp.IsExitStatus(err); err == nil || ended {
			return err
		}
		if errors.Is(err, syscall.ENOEXEC) {
			return next(ctx, append([]string{"sh", path}, args[1:]...))
		}
		text, status := refusal(hc.Dir, args[0], err)
		fmt.Fprintf(hc.Stderr, "sh: %s: %s\n", args[0], text)
		return interp.NewExitStatus(status)
	}
}

// refusal says why a word could not be run: the shell's search has errors without a kind.
func refusal(dir, word string, err error) (string, uint8) {
	file := word
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, word)
	}
	st, serr := os.Stat(file)
	switch {
	case !strings.Contains(word, "/"), serr != nil, errors.Is(err, syscall.ENOENT):
		return "not found", 127
	case st.IsDir():
		return "is a directory", 126
	}
	return "permission denied", 126
}
