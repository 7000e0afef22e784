package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/oci"
	"strata/scripts/buildkit"
)

// buildKit is a daemon of this run's own, with the registry that gives it the bases.
type buildKit struct {
	daemon   *buildkit.Daemon
	dir      string
	registry *httptest.Server
	strata   *strata
}

// startBuildKit builds BuildKit's programs where they are missing, and starts the daemon in dir: every registry that a base
// is named by is the one on loopback.
func startBuildKit(ctx context.Context, cache, dir string, s *strata) (*buildKit, error) {
	bin, err := buildkit.Programs(ctx, cache)
	if err != nil {
		return nil, fmt.Errorf("BuildKit: %w", err)
	}
	b := &buildKit{dir: dir, strata: s}
	if b.registry, err = s.serve(ctx); err != nil {
		b.stop()
		return nil, err
	}
	b.daemon, err = buildkit.Start(ctx, buildkit.Options{
		Programs: bin, Dir: dir,
		Mirror: strings.TrimPrefix(b.registry.URL, "http://"), Domains: []string{"docker.io", "strata.internal"},
	})
	if err != nil {
		b.stop()
		return nil, err
	}
	return b, nil
}

// stop ends what was started.
func (b *buildKit) stop() {
	b.daemon.Stop()
	if b.registry != nil {
		b.registry.Close()
	}
}

// build builds a case. message is why it failed, where it did.
func (b *buildKit) build(ctx context.Context, c *testCase) (r result, message string, err error) {
	out := filepath.Join(b.dir, c.name+".tar")
	defer os.Remove(out)
	args := []string{"build", "--progress", "plain", "--frontend", "dockerfile.v0",
		"--local", "context=" + c.dir, "--local", "dockerfile=" + c.dir,
		// The built-in front end, whatever a "# syntax" line names.
		"--opt", "cmdline=docker/dockerfile:1",
		"--output", "type=oci,compression=uncompressed,dest=" + out}
	err = c.flags(func(flag, value string) error {
		switch flag {
		case "--build-arg", "--label":
			args = append(args, "--opt", strings.TrimPrefix(flag, "--")+":"+value)
		case "--target":
			args = append(args, "--opt", "target="+value)
		case "--file":
			args = append(args, "--opt", "filename="+value)
		case "--network":
			args = append(args, "--opt", "force-network-mode="+value)
		case "--secret":
			id, file := secret(value)
			args = append(args, "--secret", "id="+id+",src="+filepath.Join(c.dir, file))
		default:
			return fmt.Errorf("flag %s is not known here", flag)
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var text bytes.Buffer
	cmd := b.daemon.Command(ctx, args...)
	cmd.Stderr = &text
	if err := cmd.Run(); err != nil {
		message = lastError(text.String())
		if strings.Contains(message, "transport:") { // not the case's fault, so no result either
			return nil, "", errors.Join(fmt.Errorf("buildctl: %w: %s", err, message), ctx.Err())
		}
		return fails(), message, ctx.Err()
	}
	r, err = b.read(out)
	return r, "", err
}

// lastError is what stands at the end of buildctl's output.
func lastError(text string) string {
	if i := strings.LastIndex(text, "error: "); i >= 0 {
		return text[i:]
	}
	return text
}

// read makes the result of the image in an OCI archive.
func (b *buildKit) read(file string) (result, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	a, err := indexArchive(f)
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	var manifest ocispec.Manifest
	if err := a.document("index.json", &index); err != nil {
		return nil, err
	}
	if len(index.Manifests) != 1 {
		return nil, fmt.Errorf("%s has %d manifests, want one", file, len(index.Manifests))
	}
	if err := a.document(blobName(index.Manifests[0]), &manifest); err != nil {
		return nil, err
	}
	var img oci.Image
	if err := a.document(blobName(manifest.Config), &img); err != nil {
		return nil, err
	}
	return b.strata.reader.read(&img, func(id oci.DiffID) (io.ReadCloser, error) {
		for i, known := range img.RootFS.DiffIDs {
			if known == id && i < len(manifest.Layers) {
				return a.layer(manifest.Layers[i])
			}
		}
		return nil, fmt.Errorf("layer %s: not in the manifest", id)
	})
}

func blobName(d ocispec.Descriptor) string { return "blobs/sha256/" + d.Digest.Encoded() }

// ociArchive knows where in a tar the members lie.
type ociArchive struct {
	file    *os.File
	members map[string]*io.SectionReader
}

func indexArchive(f *os.File) (*ociArchive, error) {
	a := &ociArchive{file: f, members: map[string]*io.SectionReader{}}
	r := tar.NewReader(f)
	for {
		hdr, err := r.Next()
		if err == io.EOF {
			return a, nil
		}
		if err != nil {
			return nil, err
		}
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		a.members[hdr.Name] = io.NewSectionReader(f, at, hdr.Size)
	}
}

func (a *ociArchive) document(name string, v any) error {
	m := a.members[name]
	if m == nil {
		return fmt.Errorf("archive: no %s", name)
	}
	return json.NewDecoder(m).Decode(v)
}

func (a *ociArchive) layer(d ocispec.Descriptor) (io.ReadCloser, error) {
	m := a.members[blobName(d)]
	if m == nil {
		return nil, fmt.Errorf("archive: no %s", blobName(d))
	}
	m = io.NewSectionReader(m, 0, m.Size())
	if strings.HasSuffix(d.MediaType, "gzip") {
		return gzip.NewReader(m)
	}
	return io.NopCloser(m), nil
}
