package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// floor is what a row's work takes at least: the same bytes through the same kernel, with nothing around it.
const floor = "floor"

// bottom is the floor as an engine; what it does stands in the rows.
func (b *bed) bottom(context.Context) (*engine, error) { return &engine{path: "sh"}, nil }

// layerRows are about how layers come and are shown.
func layerRows() []workload {
	return []workload{
		pulled("pull of one layer of 170 MB, gzip", "gzip", 1, 1.5),
		pulled("pull of one layer of 170 MB, zstd", "zstd", 1, 2),
		pulled("pull of ten layers of 17 MB, gzip", "gzip", 10, 2),
		{
			name: "16 × run --rm IMG true at once", limits: []limit{{than: bareRuntime, ratio: 1.5}}, rounds: 5,
			do: func(b *bed, e *engine) *task {
				switch e.name {
				case bareRuntime:
					return repeated(e.start("true"), 8)
				case b.strata().name:
					return &task{run: func(ctx context.Context) error {
						g, ctx := errgroup.WithContext(ctx)
						for range 16 {
							g.Go(func() error {
								return exec.CommandContext(ctx, e.path, append(e.global, e.startArgs("true")...)...).Run()
							})
						}
						return g.Wait()
					}}
				}
				return nil
			},
		},
		{
			name: "layer of COPY . of 15,000 files and 270 MB", limits: []limit{{than: floor, ratio: 2}}, rounds: 3, cold: true,
			prepare: func(ctx context.Context, b *bed) error {
				if err := known(ctx, b); err != nil {
					return err
				}
				return os.WriteFile(filepath.Join(b.context("source"), "only.Dockerfile"), []byte("FROM bench/base\nCOPY . /src\n"), 0o644)
			},
			do: func(b *bed, e *engine) *task {
				dir := b.context("source")
				switch e.name {
				case floor:
					return &task{run: func(ctx context.Context) error {
						return exec.CommandContext(ctx, "sh", "-c", `tar -C "$1" -c . | sha256sum`, "sh", dir).Run()
					}}
				case b.strata().name:
					return &task{run: func(ctx context.Context) error {
						return e.run(ctx, "build", "-q", "--no-cache", "-f", dir+"/only.Dockerfile", "-t", "bench/only", dir)
					}}
				}
				return nil
			},
		},
	}
}

// pulled is the row of a pull from a registry on loopback until the image can be run. Its floor is inflating the blobs into
// files; of zstd, which inflates faster than it is hashed, hashing and writing.
func pulled(name, coding string, layers int, ratio float64) workload {
	image := fmt.Sprintf("%s-%d", coding, layers)
	published := []string{"gzip-1", "zstd-1", "gzip-10"}
	return workload{
		name: name, limits: []limit{{than: floor, ratio: ratio}, {than: "docker", ratio: 0.4}, {than: "podman", ratio: 0.4}}, rounds: 5, cold: true,
		prepare: func(ctx context.Context, b *bed) error { return publish(ctx, b, image, coding, layers) },
		do: func(b *bed, e *engine) *task {
			ref := registryAddr + "/" + image
			gone := func(ctx context.Context, _ int) error {
				for _, other := range published { // they have layers of the same content
					_ = e.run(ctx, "rmi", registryAddr+"/"+other) // in the first round it is not there
				}
				return nil
			}
			switch e.name {
			case floor:
				return &task{run: func(context.Context) error { return inflateAll(b, image) }}
			case b.strata().name: // into a store of its own: in the other one the build cache has the layers
				root := b.dir + "/pulled"
				return &task{
					before: func(context.Context, int) error { return os.RemoveAll(root) },
					run:    func(ctx context.Context) error { return e.run(ctx, "--root", root, "pull", "-q", ref) },
				}
			case "docker":
				return &task{before: gone, run: func(ctx context.Context) error { return e.run(ctx, "pull", "-q", ref) }}
			case "podman":
				return &task{before: gone, run: func(ctx context.Context) error { return e.run(ctx, "pull", "-q", "--tls-verify=false", ref) }}
			}
			return nil
		},
	}
}

// publish pushes an image of so many layers, 170 MB in all, and keeps its blobs as files for the floor.
func publish(ctx context.Context, b *bed, image, coding string, layers int) error {
	if err := b.serveRegistry(ctx); err != nil {
		return err
	}
	dir := b.context(image)
	df := "FROM scratch\n"
	for i := range layers {
		if err := tree(filepath.Join(dir, fmt.Sprint(i)), 170_000_000/layers); err != nil {
			return err
		}
		df += fmt.Sprintf("COPY %d /%d/\n", i, i)
	}
	if err := b.write(image, df+"CMD x\n"); err != nil {
		return err
	}
	s, ref := b.strata(), registryAddr+"/"+image
	for _, args := range [][]string{
		{"build", "-q", "-t", ref, dir}, {"push", "-q", "--compression", coding, ref}, {"save", "--format", "oci", "--compression", coding, "-o", b.dir + "/blobs.tar", ref}, {"rmi", ref},
	} {
		if err := s.run(ctx, args...); err != nil {
			return err
		}
	}
	blobs := filepath.Join(b.dir, "blobs-"+image)
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	return exec.CommandContext(ctx, "tar", "-C", blobs, "-xf", b.dir+"/blobs.tar").Run()
}

// tree makes a directory of files like those of an image: text and programs, that gzip halves.
func tree(dir string, size int) error {
	words := make([][]byte, 4096)
	random := rand.NewChaCha8([32]byte{1})
	for i := range words {
		words[i] = make([]byte, 3+random.Uint64()%14)
		_, _ = random.Read(words[i]) // never fails
	}
	for n := 0; size > 0; n++ {
		text := make([]byte, 0, 24_000)
		for len(text) < 22_000 {
			text = append(text, words[random.Uint64()%uint64(len(words))]...)
		}
		sub := filepath.Join(dir, fmt.Sprintf("d%d", n/100))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%d", n)), text, 0o644); err != nil {
			return err
		}
		size -= len(text)
	}
	return nil
}

// inflateAll is the floor of a pull: each blob that is compressed, two at once, into a file.
func inflateAll(b *bed, image string) error {
	files, err := filepath.Glob(filepath.Join(b.dir, "blobs-"+image, "blobs/sha256/*"))
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(2)
	for i, file := range files {
		g.Go(func() error { return inflate(fmt.Sprintf("%s/inflated-%d", b.dir, i), file) })
	}
	return g.Wait()
}

func inflate(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	var r io.Reader
	hash := false
	if z, err := gzip.NewReader(in); err == nil {
		r = z
	} else if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	} else if z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1)); err == nil {
		defer z.Close()
		r, hash = z, true
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	var w io.Writer = out
	if hash {
		w = io.MultiWriter(out, sha256.New())
	}
	_, err = io.Copy(w, r)
	if errors.Is(err, zstd.ErrMagicMismatch) { // a manifest or a config
		return nil
	}
	return err
}
