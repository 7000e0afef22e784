package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"strata/internal/archive"
	"strata/internal/build"
	"strata/internal/errdef"
)

// layoutImage takes the base of a build from an OCI layout: "DIR[:TAG][@DIGEST]".
func (e *Engine) layoutImage(ctx context.Context, spec string) (build.Base, error) {
	dir, want, err := parseLayout(spec)
	if err != nil {
		return build.Base{}, err
	}
	taken, err := archive.TakeLayers(ctx, dir, want, e.archiveDeps(), e.opts.Sink)
	if err != nil {
		return build.Base{}, fmt.Errorf("OCI layout %s: %w", dir, err)
	}
	return build.Base{
		Name: build.LayoutPrefix + spec, Digest: taken.Manifest, ID: taken.ID, Config: taken.Config, Layers: taken.Config.RootFS.DiffIDs,
	}, nil
}

// parseLayout splits an image in an OCI layout into the layout's directory and what of it; without a tag it is "latest".
func parseLayout(spec string) (dir string, want archive.Want, err error) {
	dir, dgst, pinned := strings.Cut(spec, "@")
	if pinned {
		if want.Digest, err = digest.Parse(dgst); err != nil {
			return "", want, fmt.Errorf("OCI layout %q: digest %q: %w", spec, dgst, errdef.ErrInvalid)
		}
	}
	want.Tag = "latest"
	if i := strings.LastIndexByte(dir, ':'); i > strings.LastIndexByte(dir, '/') {
		dir, want.Tag = dir[:i], dir[i+1:]
	}
	if dir == "" {
		return "", want, fmt.Errorf("OCI layout %q: want DIR[:TAG][@DIGEST]: %w", spec, errdef.ErrInvalid)
	}
	return dir, want, nil
}
