package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/fetch"
	"strata/internal/graph"
	"strata/internal/rootfs"
)

// fetchedLines are the content lines of what is fetched. A file whose digest the Dockerfile has is not asked for.
func (o *copyOp) fetchedLines(ctx context.Context) ([]graph.Line, error) {
	lines := []graph.Line{}
	for i := range o.copy.Sources {
		switch s := &o.copy.Sources[i]; {
		case s.Repo != nil:
			commit, err := o.x.fetched.commit(ctx, o.x.deps.Fetch, s.Repo)
			if err != nil {
				return nil, err
			}
			lines = append(lines, graph.Line{Name: "the commit of " + fetch.Redact(s.Repo.Remote), Value: commit.Key(s.Repo)})
		case s.URL != "":
			sum := s.Checksum
			if sum == "" {
				f, err := o.x.fetched.file(ctx, o.x.deps.Fetch, s.URL, "")
				if err != nil {
					return nil, err
				}
				sum = f.Digest
			}
			lines = append(lines, graph.Line{Name: "file " + fetch.FileName(s.URL), Value: sum.String()})
		}
	}
	return lines, nil
}

func (o *copyOp) download(ctx context.Context, source *Source) ([]selection, error) {
	f, err := o.x.fetched.file(ctx, o.x.deps.Fetch, source.URL, source.Checksum)
	if err != nil {
		return nil, err
	}
	s := selection{name: fetch.FileName(source.URL), unpack: source.Unpack}
	s.top = item{path: s.name, open: f.F}
	if err := unix.Fstat(int(f.F.Fd()), &s.top.stat); err != nil {
		return nil, err
	}
	return []selection{s}, nil
}

// checkout puts a repository's tree into a directory of the step's and selects what is in it.
func (o *copyOp) checkout(ctx context.Context, t *mounted, source *Source) (found []selection, done func(), err error) {
	done = func() {}
	commit, err := o.x.fetched.commit(ctx, o.x.deps.Fetch, source.Repo)
	if err != nil {
		return nil, done, err
	}
	dir, err := os.MkdirTemp(t.dir, "checkout-")
	if err != nil {
		return nil, done, err
	}
	done = func() { os.RemoveAll(dir) }
	tree, err := o.x.deps.Fetch.Checkout(ctx, source.Repo, commit, filepath.Join(dir, "tree"))
	if err != nil {
		return nil, done, err
	}
	root, err := rootfs.OpenRoot(tree)
	if err != nil {
		return nil, done, err
	}
	done = func() { root.Close(); os.RemoveAll(dir) }
	s, err := selectOne(root, "/")
	if err != nil {
		return nil, done, err
	}
	s.like = true
	found = []selection{s}
	return found, done, o.filter(source, found)
}

// fetched is what one build has fetched: each thing is asked for once, and what was keyed is what is copied.
type fetched struct {
	mu      sync.Mutex
	files   map[string]*fetchedOnce[*fetch.File]
	commits map[string]*fetchedOnce[fetch.Commit]
}

// fetchedOnce is fetched by whoever asks first; a failure is not kept.
type fetchedOnce[T any] struct {
	mu    sync.Mutex
	known bool
	value T
}

func (f *fetchedOnce[T]) get(fetch func() (T, error)) (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known {
		return f.value, nil
	}
	value, err := fetch()
	if err == nil {
		f.value, f.known = value, true
	}
	return value, err
}

// once gives the place for key, the same each time.
func once[T any](mu *sync.Mutex, all *map[string]*fetchedOnce[T], key string) *fetchedOnce[T] {
	mu.Lock()
	defer mu.Unlock()
	if *all == nil {
		*all = map[string]*fetchedOnce[T]{}
	}
	if (*all)[key] == nil {
		(*all)[key] = &fetchedOnce[T]{}
	}
	return (*all)[key]
}

func (f *fetched) file(ctx context.Context, cache *fetch.Cache, url string, want digest.Digest) (*fetch.File, error) {
	if cache == nil {
		return nil, fmt.Errorf("%s: this build fetches nothing: %w", fetch.Redact(url), errdef.ErrUnsupported)
	}
	return once(&f.mu, &f.files, url+" "+want.String()).get(func() (*fetch.File, error) { return cache.File(ctx, url, want) })
}

func (f *fetched) commit(ctx context.Context, cache *fetch.Cache, repo *fetch.Repo) (fetch.Commit, error) {
	if cache == nil {
		return fetch.Commit{}, fmt.Errorf("%s: this build fetches nothing: %w", fetch.Redact(repo.Remote), errdef.ErrUnsupported)
	}
	key := fmt.Sprint(repo.Remote, "#", repo.Ref, " ", repo.Checksum, " ", repo.ByCommit)
	return once(&f.mu, &f.commits, key).get(func() (fetch.Commit, error) { return cache.Resolve(ctx, repo) })
}

func (f *fetched) close() {
	for _, once := range f.files {
		if once.known {
			once.value.Close()
		}
	}
}
