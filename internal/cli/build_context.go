package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"strata/internal/build"
	"strata/internal/dockerfile"
	"strata/internal/engine"
	"strata/internal/errdef"
)

// inputs finds the Dockerfile and the context.
func (f *buildFlags) inputs(in io.Reader, dir string, o *engine.BuildOptions) error {
	if dir == "-" {
		return f.standardInput(in, o)
	}
	st, err := os.Stat(dir)
	switch {
	case err != nil && engine.RemoteContext(dir):
		return f.remote(in, dir, o)
	case err != nil:
		return noContext(dir, err)
	case !st.IsDir():
		return fileContext(dir)
	}
	if _, err := filepath.Abs(dir); err != nil {
		return fmt.Errorf("build context %s: %w", dir, err)
	}
	o.Context, o.Name = dir, "Dockerfile"
	switch {
	case f.df == "-":
		return readDockerfile(in, "-", o)
	case strings.HasPrefix(f.df, "https://"), strings.HasPrefix(f.df, "http://"):
		o.File = f.df
		return nil
	case f.df == "":
		f.df = defaultFile(dir)
		if _, err := os.Stat(f.df); err != nil && strings.HasPrefix(f.call, "context") { // which is not about it
			return nil
		}
	}
	o.File = f.df
	file, err := os.Open(f.df)
	if err != nil {
		return noDockerfile(f.df, dir, err)
	}
	defer file.Close()
	o.Name = filepath.Base(f.df)
	return readDockerfile(file, f.df, o)
}

// standardInput reads what PATH "-" means: an archive with the whole context in it, or a Dockerfile without a context.
func (f *buildFlags) standardInput(in io.Reader, o *engine.BuildOptions) error {
	if f.df == "-" {
		return usagef("standard input cannot be both the Dockerfile and the context")
	}
	r := bufio.NewReaderSize(in, engine.ArchiveHead)
	head, err := r.Peek(engine.ArchiveHead)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("standard input: %w", err)
	}
	o.Name = "Dockerfile"
	if engine.LooksLikeArchive(head) {
		o.Archive, o.FileInContext = r, f.df
		if f.df != "" {
			o.Name = path.Base(filepath.ToSlash(f.df))
		}
		return nil
	}
	if f.df != "" {
		return usageError{errdef.WithHint(errors.New("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles"),
			"leave out -f, or name a directory as context")}
	}
	return readDockerfile(r, "Dockerfile", o)
}

// remote is a context that is fetched. Its Dockerfile is in it, unless it comes on standard input.
func (f *buildFlags) remote(in io.Reader, source string, o *engine.BuildOptions) error {
	o.Remote, o.Name = source, "Dockerfile"
	switch f.df {
	case "":
	case "-":
		return readDockerfile(in, "-", o)
	default:
		o.FileInContext, o.Name = f.df, path.Base(filepath.ToSlash(f.df))
	}
	return nil
}

// readDockerfile reads at most a byte more than the parser takes, so that it and not we say that the file is too long.
func readDockerfile(r io.Reader, name string, o *engine.BuildOptions) error {
	raw, err := io.ReadAll(io.LimitReader(r, dockerfile.MaxFile+1))
	if err != nil {
		return fmt.Errorf("Dockerfile %s: %w", name, err)
	}
	if engine.LooksLikeArchive(raw[:min(len(raw), engine.ArchiveHead)]) {
		return usageError{errdef.WithHint(fmt.Errorf("%s is an archive, not a Dockerfile: %w", name, errdef.ErrInvalid), "an archive is a context: strata build - < ARCHIVE")}
	}
	if raw == nil {
		raw = []byte{}
	}
	o.Dockerfile = raw
	return nil
}

// buildContexts reads --build-context: NAME=VALUE.
func buildContexts(specs []string) (map[string]string, error) {
	contexts := map[string]string{}
	for _, spec := range specs {
		name, value, ok := strings.Cut(spec, "=")
		if !ok || value == "" {
			return nil, usagef("--build-context: invalid context value: %s, expected key=value", spec)
		}
		short, err := build.ContextName(name)
		if err != nil {
			return nil, usageError{fmt.Errorf("--build-context: invalid context name %q: %w", name, err)}
		}
		contexts[short] = value
	}
	return contexts, nil
}
