package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"strata/internal/container"
	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/reference"
)

// mended adds to an error the next line to type, made of the words that were typed.
func mended(err error, words []string) error {
	var upper *reference.CaseError
	var file *engine.NotImage
	var taken *container.NameTaken
	var other *engine.Elsewhere
	var call *os.SyscallError
	hint := ""
	switch {
	case errors.As(err, &call) && call.Syscall == "getwd" && errors.Is(call, os.ErrNotExist):
		hint = "the working directory is gone: go to another, or give whole paths"
	case errors.As(err, &upper):
		if line, ok := replaced(words, upper.Name, upper.Lower); ok && upper.Lower != "" {
			hint = "image names are in lower case: " + line
		}
	case errors.As(err, &file):
		hint = buildFirst(words, file)
	case errors.As(err, &taken):
		hint = freeName(words, taken)
	case errors.As(err, &other):
		hint = other.Line(shellWords(words))
	}
	if hint == "" {
		return err
	}
	return errdef.WithHint(err, hint)
}

// commandWords are the words that were typed, the program by its name alone.
func commandWords() []string {
	words := slices.Clone(os.Args)
	words[0] = filepath.Base(words[0])
	return words
}

// replaced puts right in the place of the word wrong, or of a flag's value after "=". The last one counts.
func replaced(words []string, wrong, right string) (string, bool) {
	for i := len(words) - 1; i > 0; i-- {
		flag, value, isFlag := strings.Cut(words[i], "=")
		if isFlag = isFlag && strings.HasPrefix(flag, "-") && value == wrong; !isFlag && words[i] != wrong {
			continue
		}
		mended := slices.Clone(words)
		mended[i] = right
		if isFlag {
			mended[i] = flag + "=" + right
		}
		return shellWords(mended), true
	}
	return "", false
}

// buildFirst is the line that makes an image of a file or directory, and then does what was asked for.
func buildFirst(words []string, n *engine.NotImage) string {
	program := words[0]
	if n.Archive {
		return fmt.Sprintf("%s load -i %s", program, shellWords([]string{n.Name}))
	}
	if !n.Dockerfile && !n.Directory {
		return fmt.Sprintf(`name an image that can run it, and show it the directory: %s run --rm -v "$PWD":/src -w /src IMAGE ./%s`, program, shellWords([]string{filepath.Clean(n.Name)}))
	}
	dir, file := filepath.Split(n.Name)
	if n.Directory {
		dir, file = n.Name, "Dockerfile"
	}
	dir = filepath.Clean(dir)
	name := imageName(dir)
	build := []string{program, "build", "-t", name}
	if file != "Dockerfile" {
		build = append(build, "-f", n.Name)
	}
	line, ok := replaced(words, n.Name, name)
	if !ok {
		line = program + " run " + name
	}
	return shellWords(append(build, dir)) + " && " + line
}

// imageName makes a name for an image of a directory's.
func imageName(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		name := strings.ToLower(filepath.Base(abs))
		if ref, err := reference.Parse(name); err == nil && ref.Tag == "" && ref.Digest == "" && ref.FamiliarName() == name {
			return name
		}
	}
	return "my-image"
}

// freeName are the two lines that help where a container's name is taken.
func freeName(words []string, t *container.NameTaken) string {
	remove := "rm"
	if t.Running {
		remove = "rm -f"
	}
	again, ok := replaced(words, t.Name, t.Name+"-2")
	if !ok {
		return fmt.Sprintf("%s %s %s", words[0], remove, t.Name)
	}
	return fmt.Sprintf("%s %s %s && %s\nor with another name: %s", words[0], remove, t.Name, shellWords(words), again)
}
