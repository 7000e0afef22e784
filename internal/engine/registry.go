package engine

import (
	"context"
	"fmt"

	"strata/internal/errdef"
	"strata/internal/reference"
	"strata/internal/remote"
)

// Registries is the client for every registry, with this user's configuration and credentials. It needs no store.
func Registries() *remote.Client {
	return remote.New(remote.Options{UserAgent: "strata"})
}

// registries is the engine's one client, which remembers tokens and connections.
func (e *Engine) registries() *remote.Client {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.remote == nil {
		e.remote = Registries()
	}
	return e.remote
}

// maxNesting bounds indexes within indexes.
const maxNesting = 4

// shownTags is how many tags of a repository an error names.
const shownTags = 12

// notThere explains why a registry did not give ref: a repository that has other tags is told from one that is not there.
func (e *Engine) notThere(ctx context.Context, ref reference.Ref, cause error) error {
	tags, err := e.registries().Tags(ctx, ref.Repository(), 1000)
	if err != nil || len(tags) == 0 || ref.Digest != "" {
		return errdef.WithHint(fmt.Errorf("pull access denied for %s, repository does not exist or may require 'strata login': %w", ref.FamiliarName(), cause),
			"check the name; a private repository needs: strata login"+loginHost(ref))
	}
	return errdef.WithHint(fmt.Errorf("repository %s has no tag %q: %w", ref.FamiliarName(), ref.Tag, cause),
		fmt.Sprintf("its tags: %s; for example: strata pull %s:%s", someTags(tags), ref.FamiliarName(), newest(tags)))
}

// loginHost is what follows "strata login" for ref's registry.
func loginHost(ref reference.Ref) string {
	if ref.Domain == "docker.io" {
		return ""
	}
	return " " + ref.Domain
}
