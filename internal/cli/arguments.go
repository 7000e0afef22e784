package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"strata/internal/container"
	"strata/internal/dockerfile"
	"strata/internal/engine"
	"strata/internal/errdef"
)

// swallowed explains a missing argument by the flag at the end of the line that took it for its value: --name ubuntu. A flag that takes
// numbers or sizes would have refused a name.
func swallowed(cmd *cobra.Command, words []string) string {
	if len(words) < 3 {
		return ""
	}
	flag, value := words[len(words)-2], words[len(words)-1]
	if !strings.HasPrefix(flag, "-") || strings.Contains(flag, "=") || !(invocation{cmd: cmd}).takesValue(flag) {
		return ""
	}
	if f := (invocation{cmd: cmd}).flag(flag); !strings.HasPrefix(f.Value.Type(), "string") {
		return ""
	}
	line := append(slices.Clone(words[:len(words)-1]), "VALUE", value)
	return fmt.Sprintf("%s takes a value, and %q was taken for it: %s", flag, value, shellWords(line))
}

// oneContext wants exactly one argument of build, and says what the other words were probably meant to be.
func oneContext(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	words := commandWords()
	if len(args) == 0 {
		hint := swallowed(cmd, words)
		if hint == "" || !isDirectory(words[len(words)-1]) {
			hint = shellWords(append(words, "."))
		}
		return errdef.WithHint(fmt.Errorf("'%s' requires 1 argument: the directory with the files to build from", cmd.CommandPath()), hint)
	}
	err := fmt.Errorf("'%s' requires 1 argument, the directory with the files to build from, and got %d: %s", cmd.CommandPath(), len(args), shellWords(args))
	return errdef.WithHint(err, twoContexts(cmd, words, args))
}

// twoContexts says what the word beside the directory was probably meant to be: a flag's value, or the image's name.
func twoContexts(cmd *cobra.Command, words, args []string) string {
	for i, arg := range args {
		at := slices.Index(words, arg)
		if at < 1 || len(args) != 2 || isDirectory(arg) && !isDirectory(args[1-i]) {
			continue
		}
		flag := words[at-1]
		if f := cmd.Flags().Lookup(strings.TrimPrefix(flag, "--")); strings.HasPrefix(flag, "--") && f != nil && f.NoOptDefVal != "" {
			return shellWords(slices.Concat(words[:at-1], []string{flag + "=" + arg}, words[at+1:]))
		}
		if !cmd.Flags().Changed("tag") {
			last := slices.Delete(slices.Clone(words), at, at+1)
			return "a name is given with -t: " + shellWords(slices.Concat(last[:len(last)-1], []string{"-t", arg}, last[len(last)-1:]))
		}
	}
	return cmd.CommandPath() + " ."
}

func isDirectory(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.IsDir()
}

// noContext explains a build context that is not there.
func noContext(path string, err error) error {
	if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("build context %s: %w", path, err)
	}
	if scheme, _, ok := strings.Cut(path, "://"); ok {
		return errdef.WithHint(fmt.Errorf("build context %s: contexts by %s: %w", path, scheme, errdef.ErrUnsupported), "want https://, http://, git:// or ssh://")
	}
	err = fmt.Errorf("build context %s: %w", path, errdef.ErrNotFound)
	words := commandWords()
	if near := dockerfile.Closest(filepath.Base(path), directories(filepath.Dir(path))); near != "" {
		if line, ok := replaced(words, path, filepath.Join(filepath.Dir(path), near)); ok {
			return errdef.WithHint(err, "did you mean "+near+"? "+line)
		}
	}
	if line, ok := replacedBy(words, path, "-t", path, "."); ok && !strings.ContainsAny(path, "/.") && !slices.Contains(words, "-t") {
		return errdef.WithHint(err, "to build the directory that you are in and name the image: "+line)
	}
	return errdef.WithHint(err, "name a directory; . is the one that you are in")
}

func directories(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// replacedBy is replaced with several words.
func replacedBy(words []string, wrong string, right ...string) (string, bool) {
	i := slices.Index(words, wrong)
	if i <= 0 {
		return "", false
	}
	return shellWords(slices.Concat(words[:i], right, words[i+1:])), true
}

// fileContext explains a file in the place of the build context.
func fileContext(path string) error {
	err := fmt.Errorf("build context: %s is a file, not a directory: %w", path, errdef.ErrInvalid)
	line, ok := replacedBy(commandWords(), path, "-f", path, filepath.Dir(path))
	if !ok {
		line = fmt.Sprintf("strata build -f %s %s", path, filepath.Dir(path))
	}
	return errdef.WithHint(err, "name the directory, and the file with -f: "+line)
}

// noDockerfile lists what may be the Dockerfile of a directory that has none.
func noDockerfile(file, dir string, err error) error {
	if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("Dockerfile: %w", err)
	}
	err = fmt.Errorf("Dockerfile %s: %w", file, errdef.ErrNotFound)
	found := candidates(file, dir)
	if len(found) == 0 {
		return errdef.WithHint(err, fmt.Sprintf("go to the directory with the Dockerfile, or say where it is: strata build -f FILE %s", shellWords([]string{dir})))
	}
	var lines []string
	for _, name := range found {
		line, ok := replacedBy(withoutFile(commandWords()), dir, "-f", filepath.Join(dir, name), dir)
		if !ok {
			line = fmt.Sprintf("strata build -f %s %s", filepath.Join(dir, name), dir)
		}
		lines = append(lines, fmt.Sprintf("there is %s: %s", name, line))
	}
	return errdef.WithHint(err, strings.Join(lines, "\n"))
}

// maxCandidates bounds how many files are offered.
const maxCandidates = 3

// candidates are the names of files in dir, and in the directories there, that look like Dockerfiles.
func candidates(file, dir string) []string {
	var found []string
	look := func(sub string) {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			return
		}
		for _, e := range entries {
			lower := strings.ToLower(e.Name())
			named := strings.Contains(lower, "dockerfile") || strings.Contains(lower, "containerfile")
			if name := filepath.Join(sub, e.Name()); named && !e.IsDir() && !strings.HasSuffix(lower, ".dockerignore") && filepath.Join(dir, name) != filepath.Clean(file) {
				found = append(found, name)
			}
		}
	}
	if look("."); len(found) == 0 {
		for _, sub := range directories(dir) {
			look(sub)
		}
	}
	return found[:min(len(found), maxCandidates)]
}

// withoutFile leaves out -f and its value.
func withoutFile(words []string) []string {
	for i, w := range words {
		switch {
		case (w == "-f" || w == "--file") && i+1 < len(words):
			return slices.Delete(words, i, i+2)
		case strings.HasPrefix(w, "--file="):
			return slices.Delete(words, i, i+1)
		}
	}
	return words
}

// blankedPair explains -e A = b, which is the value A and an image called "=".
func blankedPair(cmd *cobra.Command, args []string) error {
	value, ok := strings.CutPrefix(args[0], "=")
	if !ok {
		return nil
	}
	line := typed(cmd, args)
	rest := line.args
	if value == "" && len(rest) > 0 {
		value, rest = rest[0], rest[1:]
	}
	own := slices.Clone(line.own)
	own[len(own)-1] += "=" + value
	return usageError{errdef.WithHint(fmt.Errorf("image %q: that is no name: %w", args[0], errdef.ErrInvalid), "no blanks stand around the equals sign: "+shellWords(append(own, rest...)))}
}

// twoHyphens says that a long flag was meant where one hyphen makes it many short ones.
func twoHyphens(c *cobra.Command, message string) string {
	_, word, ok := strings.Cut(message, "' in -")
	if !ok || len(word) < 2 {
		return ""
	}
	if long, _, _ := strings.Cut(word, "="); c.Flags().Lookup(long) == nil {
		return ""
	}
	return "long flags have two hyphens: --" + word
}

// absent adds to "No such container" what was probably meant: a container with a name like it, or an image.
func absent(ctx context.Context, e *engine.Engine, s *container.Store, name string, err error) error {
	if !errors.Is(err, errdef.ErrNotFound) {
		return err
	}
	all, lerr := s.List(ctx)
	if lerr != nil {
		return err
	}
	var names []string
	for _, rec := range all {
		names = append(names, rec.Name)
	}
	words := commandWords()
	if near := dockerfile.Closest(name, names); near != "" {
		line, _ := replaced(words, name, near)
		return errdef.WithHint(err, strings.TrimSpace("did you mean "+near+"? "+line))
	}
	if _, ierr := e.Images().Resolve(ctx, name); ierr == nil {
		return errdef.WithHint(err, fmt.Sprintf("%s is an image, of which a container is made by: %s run %s", name, words[0], name))
	}
	if len(names) == 0 {
		return errdef.WithHint(err, fmt.Sprintf("there are no containers yet: %s run IMAGE makes one", words[0]))
	}
	return errdef.WithHint(err, fmt.Sprintf("the containers that there are: %s ps -a", words[0]))
}
