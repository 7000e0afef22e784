package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"strata/internal/build"
	"strata/internal/dockerfile"
	"strata/internal/errdef"
	"strata/internal/fetch"
	"strata/internal/layer"
	"strata/internal/progress"
	"strata/internal/rootfs"
	"strata/internal/userns"
)

// RemoteContext reports whether the argument of build names something that is fetched: a git repository or a URL.
func RemoteContext(arg string) bool {
	repo, err := contextRepo(arg)
	return repo != nil || err != nil || fetch.IsURL(arg)
}

// contextRepo reads a git repository, also in the short form of the one host for which docker knows it.
func contextRepo(arg string) (*fetch.Repo, error) {
	if rest, ok := strings.CutPrefix(arg, "github.com/"); ok {
		name, more := rest, ""
		if i := strings.IndexAny(rest, "#?"); i >= 0 {
			name, more = rest[:i], rest[i:]
		}
		arg = "https://github.com/" + strings.TrimSuffix(name, ".git") + ".git" + more
	}
	return fetch.ParseRepo(arg)
}

// fetcher gets what a build's contexts and its ADDs name elsewhere.
func (e *Engine) fetcher(o BuildOptions) *fetch.Cache {
	return fetch.Open(fetch.Options{Dir: e.fetchDir(), Secrets: o.Secrets, Agent: o.Agents["default"], Sink: e.opts.Sink})
}

// openContext makes the build's context ready and gives o the Dockerfile that is in it. It is nil for a build without one.
func (e *Engine) openContext(ctx context.Context, o *BuildOptions) (*build.Context, error) {
	switch {
	case o.Archive != nil:
		dir, err := e.contextDir()
		if err == nil {
			err = e.unpackContext(ctx, o.Archive, dir)
		}
		if err != nil {
			return nil, fmt.Errorf("build context from standard input: %w", err)
		}
		return e.fetchedContext(o, dir, "standard input")
	case o.Remote != "":
		dir, err := e.fetchMain(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("build context: %w", err)
		}
		return e.fetchedContext(o, dir, fetch.Redact(o.Remote))
	case o.Context == "":
		return nil, nil
	}
	if fetch.IsURL(o.File) && o.Dockerfile == nil {
		if err := e.fetchDockerfile(ctx, o); err != nil {
			return nil, err
		}
	}
	return e.localContext(o.Context, o.File)
}

// contextDir makes a directory for one context's files, which goes with this process.
func (e *Engine) contextDir() (string, error) {
	temp, err := e.tempDir()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(temp, "context-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	return dir, err
}

// unpackContext unpacks a tar. Its files belong to root, as those of every context do.
func (e *Engine) unpackContext(ctx context.Context, r io.Reader, dir string) (err error) {
	task := progress.Begin(e.opts.Sink, "unpack "+dir, "[internal] load remote build context")
	defer func() { task.End(ctx, false, err) }()
	content, _, err := layer.Decompress(io.TeeReader(r, task))
	if err != nil {
		return err
	}
	defer content.Close()
	root, err := rootfs.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	owner := 0
	return layer.ExtractTree(ctx, content, root.File(), "/", layer.ExtractOptions{UID: &owner, GID: &owner, IgnoreOwner: userns.OneOwner()})
}

// fetchMain puts the build's remote context into a directory: a repository's tree, an archive's content, or one file, which
// is the Dockerfile then.
func (e *Engine) fetchMain(ctx context.Context, o *BuildOptions) (string, error) {
	repo, err := contextRepo(o.Remote)
	if err != nil {
		return "", err
	}
	if repo != nil {
		if keep := o.BuildArgs["BUILDKIT_CONTEXT_KEEP_GIT_DIR"]; keep != nil && (*keep == "1" || *keep == "true") && repo.KeepGitDir == nil {
			repo.KeepGitDir = new(bool)
			*repo.KeepGitDir = true
		}
		repo.CommitTime = repo.CommitTime || o.BuildArgs["SOURCE_DATE_EPOCH"] != nil
		return e.checkout(ctx, o, repo)
	}
	f, err := e.fetcher(*o).File(ctx, o.Remote, "")
	if err != nil {
		return "", err
	}
	defer f.Close()
	dir, err := e.contextDir()
	if err != nil {
		return "", err
	}
	head := make([]byte, ArchiveHead)
	n, err := f.F.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if LooksLikeArchive(head[:n]) {
		if err := e.unpackContext(ctx, io.NewSectionReader(f.F, 0, 1<<62), dir); err != nil {
			return "", fmt.Errorf("%s: %w", fetch.Redact(o.Remote), err)
		}
		return dir, nil
	}
	o.FileInContext = contextFile
	return dir, writeContextFile(f, dir)
}

// contextFile is what the only file of a context is called, as with BuildKit.
const contextFile = "context"

func writeContextFile(f *fetch.File, dir string) error {
	to, err := os.OpenFile(filepath.Join(dir, contextFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := f.F.Stat()
	if err == nil {
		_, err = io.Copy(to, io.NewSectionReader(f.F, 0, 1<<62))
	}
	if e := to.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Chtimes(to.Name(), info.ModTime(), info.ModTime())
	}
	return err
}

func (e *Engine) checkout(ctx context.Context, o *BuildOptions, repo *fetch.Repo) (string, error) {
	cache := e.fetcher(*o)
	commit, err := cache.Resolve(ctx, repo)
	if err != nil {
		return "", err
	}
	dir, err := e.contextDir()
	if err != nil {
		return "", err
	}
	return cache.Checkout(ctx, repo, commit, filepath.Join(dir, "tree"))
}

// fetchDockerfile gets a Dockerfile that -f names by its URL.
func (e *Engine) fetchDockerfile(ctx context.Context, o *BuildOptions) error {
	f, err := e.fetcher(*o).File(ctx, o.File, "")
	if err != nil {
		return fmt.Errorf("Dockerfile: %w", err)
	}
	defer f.Close()
	o.Dockerfile, err = io.ReadAll(io.NewSectionReader(f.F, 0, dockerfile.MaxFile+1))
	return err
}

// fetchedContext is a context that was put into dir, and its Dockerfile unless there is one already. What is in it is
// foreign: paths are resolved inside it.
func (e *Engine) fetchedContext(o *BuildOptions, dir, from string) (*build.Context, error) {
	root, err := rootfs.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	ignores := []string{".dockerignore"}
	if o.Dockerfile == nil {
		name, err := readContextFile(root, o)
		if err != nil {
			return nil, fmt.Errorf("%w in the build context, %s", err, from)
		}
		ignores = []string{name + ".dockerignore", ".dockerignore"}
	}
	for _, name := range ignores {
		raw, err := root.ReadFile(name, dockerfile.MaxFile)
		if errors.Is(err, errdef.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		ignore, err := dockerfile.ParseIgnore(bytes.NewReader(raw), name)
		if err != nil {
			return nil, err
		}
		return build.NewFetchedContext(dir, from, ignore, name)
	}
	return build.NewFetchedContext(dir, from, nil, "")
}

// readContextFile reads the Dockerfile in a fetched context and gives its path there.
func readContextFile(root *rootfs.Root, o *BuildOptions) (string, error) {
	names := []string{strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(o.FileInContext)), "/")}
	if o.FileInContext == "" {
		names = []string{"Dockerfile", "dockerfile"}
	}
	for _, name := range names {
		raw, err := root.ReadFile(name, dockerfile.MaxFile+1)
		if err == nil {
			o.Dockerfile = raw
			return name, nil
		}
		if !errors.Is(err, errdef.ErrNotFound) {
			return "", fmt.Errorf("Dockerfile: %w", err)
		}
	}
	return "", errdef.WithHint(fmt.Errorf("Dockerfile %s: %w", names[0], errdef.ErrNotFound), "name it by its path there: -f PATH")
}

// localContext is the context in a directory of the user's; file is the Dockerfile's path.
func (e *Engine) localContext(dir, file string) (*build.Context, error) {
	ignore, name, err := ignoreFile(dir, file)
	if err != nil {
		return nil, err
	}
	return build.NewContext(dir, ignore, name, filepath.Join(e.cacheDir(), "context"))
}

// namedContext opens a tree of --build-context.
func (e *Engine) namedContext(ctx context.Context, o BuildOptions, name string) (*build.Context, error) {
	c, err := e.openNamed(ctx, o, o.Contexts[name])
	if err != nil {
		return nil, fmt.Errorf("context %q: %w", name, err)
	}
	if o.PlainModes {
		c.PlainModes()
	}
	return c, nil
}

func (e *Engine) openNamed(ctx context.Context, o BuildOptions, value string) (*build.Context, error) {
	repo, err := contextRepo(value)
	switch {
	case err != nil:
		return nil, err
	case repo != nil:
		dir, err := e.checkout(ctx, &o, repo)
		if err != nil {
			return nil, err
		}
		return build.NewFetchedContext(dir, fetch.Redact(value), nil, "")
	case fetch.IsURL(value):
		f, err := e.fetcher(o).File(ctx, value, "")
		if err != nil {
			return nil, err
		}
		defer f.Close()
		dir, err := e.contextDir()
		if err == nil {
			err = writeContextFile(f, dir)
		}
		if err != nil {
			return nil, err
		}
		return build.NewFetchedContext(dir, fetch.Redact(value), nil, "")
	}
	if scheme, _, ok := strings.Cut(value, "://"); ok {
		return nil, errdef.WithHint(fmt.Errorf("unsupported context source %s: %w", scheme, errdef.ErrUnsupported),
			"want a directory, a URL, a git repository, docker-image://NAME, oci-layout://DIR or target:STAGE")
	}
	return e.localContext(value, "")
}

// ignoreFile reads what the context in dir leaves out: the Dockerfile's own file goes before the context's.
func ignoreFile(dir, file string) (*dockerfile.Ignore, string, error) {
	var names []string
	if file != "" && !fetch.IsURL(file) {
		names = append(names, file+".dockerignore")
	}
	for _, name := range append(names, filepath.Join(dir, ".dockerignore")) {
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		defer f.Close()
		ignore, err := dockerfile.ParseIgnore(f, filepath.Base(name))
		return ignore, filepath.Base(name), err
	}
	return nil, "", nil
}

// ArchiveHead is how many bytes [LooksLikeArchive] looks at.
const ArchiveHead = 512

// LooksLikeArchive tells a tar, compressed or not, from a Dockerfile by its first bytes.
func LooksLikeArchive(head []byte) bool {
	for _, magic := range []string{"BZh", "\x1f\x8b\x08", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	if len(head) == ArchiveHead && (string(head[257:262]) == "ustar" || head[0] == 0) {
		return true
	}
	_, err := tar.NewReader(bytes.NewReader(head)).Next()
	return err == nil
}
