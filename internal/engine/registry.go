package engine

import (
	"context"
	"fmt"
	"sync/atomic"

	"strata/internal/config"
	"strata/internal/errdef"
	"strata/internal/progress"
	"strata/internal/reference"
	"strata/internal/remote"
)

// Transfer bounds what transfers take of a network. What is zero is as strata.toml says, else as usual.
type Transfer struct {
	// Concurrent is how many connections carry blobs at a time.
	Concurrent int
	// Rate bounds the bytes a second of all of them together.
	Rate int64
}

// transfer is what the caller wants, and strata.toml where he says nothing.
func (e *Engine) transfer() (Transfer, error) {
	t := e.opts.Transfer
	c, err := e.Config()
	if err != nil {
		return t, err
	}
	if t.Concurrent == 0 {
		if t.Concurrent = c.Transfer.MaxConcurrent; t.Concurrent < 0 {
			return t, c.Fault("transfer.max-concurrent", fmt.Errorf("%d: want a number of connections: %w", t.Concurrent, errdef.ErrInvalid))
		}
	}
	if t.Rate == 0 && c.Transfer.LimitRate != "" {
		t.Rate, err = config.ParseSize(c.Transfer.LimitRate)
		err = c.Fault("transfer.limit-rate", err)
	}
	return t, err
}

// usualLayers is how many layers are on their way at a time: some travel, which on a bad line each does slowly, while others are
// compressed or unpacked. Each takes up to twenty megabytes of memory.
const usualLayers = 6

// layersAtOnce is usualLayers, unless fewer connections are allowed.
func (e *Engine) layersAtOnce() (int, error) {
	n := usualLayers
	t, err := e.transfer()
	if t.Concurrent > 0 {
		n = min(n, t.Concurrent)
	}
	return n, err
}

// Registries is the client for every registry, with this user's configuration and credentials. It needs no store.
func Registries() *remote.Client {
	return remote.New(remote.Options{UserAgent: userAgent})
}

// RegistriesFor is the client of an engine with these options: it keeps the bounds on transfers, and tells the sink when a
// registry makes it wait. It needs no store.
func RegistriesFor(o Options) *remote.Client {
	if o.Sink == nil {
		o.Sink = progress.Discard
	}
	return (&Engine{opts: o}).registries()
}

const userAgent = "strata"

// InsecureRegistries is Registries that also takes plain HTTP, and certificates that nobody vouches for.
func InsecureRegistries() *remote.Client {
	return remote.New(remote.Options{UserAgent: userAgent, Insecure: true})
}

// registries is the engine's one client, which remembers tokens and connections.
func (e *Engine) registries() *remote.Client {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.remote == nil {
		e.remote = remote.New(remote.Options{UserAgent: userAgent, Tell: e.tell(), Limits: func() (remote.Limits, error) {
			t, err := e.transfer()
			return remote.Limits{Connections: t.Concurrent, Rate: t.Rate}, err
		}})
	}
	return e.remote
}

// tell shows what a registry has to say as a vertex of its own.
func (e *Engine) tell() func(ctx context.Context, text string) (over func()) {
	var n atomic.Int64
	return func(ctx context.Context, text string) func() {
		task := progress.Begin(e.opts.Sink, fmt.Sprintf("registry %d", n.Add(1)), text)
		return func() { task.End(ctx, false, nil) }
	}
}

// maxNesting bounds indexes within indexes.
const maxNesting = 4

// shownTags is how many tags of a repository an error names.
const shownTags = 12

// notThere explains why a registry did not give ref: a repository that has other tags is told from one that is not there.
// example is the command with another name.
func notThere(ctx context.Context, client *remote.Client, ref reference.Ref, cause error, example func(name string) string) error {
	tags, err := client.Tags(ctx, ref.Repository(), 1000)
	if err != nil || len(tags) == 0 || ref.Digest != "" {
		return errdef.WithHint(fmt.Errorf("pull access denied for %s, repository does not exist or may require 'strata login': %w", ref.FamiliarName(), cause),
			"check the name; a private repository needs: strata login"+loginHost(ref))
	}
	return errdef.WithHint(fmt.Errorf("repository %s has no tag %q: %w", ref.FamiliarName(), ref.Tag, cause),
		fmt.Sprintf("its tags: %s; for example: strata %s", someTags(tags), example(ref.FamiliarName()+":"+newest(tags))))
}

// loginHost is what follows "strata login" for ref's registry.
func loginHost(ref reference.Ref) string {
	if ref.Domain == "docker.io" {
		return ""
	}
	return " " + ref.Domain
}
