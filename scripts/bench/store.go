package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// storeRows are about what lies in a store, much and many: how it goes out and in, is made, listed, measured and removed.
func storeRows() []workload {
	return []workload{removal(), saving(), loading(), unpacking(),
		crowded("images of 1,000 images and 5,000 layers", 60*time.Millisecond, "images"),
		crowded("system df of 1,000 images and 5,000 layers", 200*time.Millisecond, "system", "df"),
	}
}

// removal is the row of an image that has many files.
func removal() workload {
	return workload{
		name: "rmi of 100,000 files", limits: []limit{{most: 50 * time.Millisecond}}, rounds: 3, cold: true,
		prepare: heap,
		do: func(b *bed, e *engine) *task {
			if e != b.strata() {
				return nil
			}
			return &task{
				before: func(ctx context.Context, _ int) error { return e.run(ctx, "import", b.dir+"/heap.tar", "bench/heap") },
				run:    func(ctx context.Context) error { return e.run(ctx, "rmi", "bench/heap") },
			}
		},
	}
}

// saving is the row of an archive that is written.
func saving() workload {
	return workload{
		name: "save of 245 MB", limits: []limit{{than: floor, ratio: 2}}, rounds: 5,
		prepare: bulky,
		do: func(b *bed, e *engine) *task {
			out := b.dir + "/out.tar"
			switch e.name {
			case floor:
				return &task{run: func(context.Context) error { return copySum(out, b.dir+"/bulk.tar") }}
			case b.strata().name:
				return &task{run: func(ctx context.Context) error { return e.run(ctx, "save", "-o", out, "bench/bulk") }}
			}
			return nil
		},
	}
}

// loading is the row of an archive that is taken in.
func loading() workload {
	return workload{
		name: "load of 245 MB", limits: []limit{{than: floor, ratio: 2}}, rounds: 5, cold: true,
		prepare: bulky,
		do: func(b *bed, e *engine) *task {
			switch e.name {
			case floor:
				return &task{run: func(context.Context) error { return copySum(b.dir+"/in.tar", b.dir+"/bulk.tar") }}
			case b.strata().name:
				return &task{
					before: func(ctx context.Context, _ int) error {
						if err := e.run(ctx, "save", "-o", b.dir+"/saved.tar", "bench/bulk"); err != nil {
							return err
						}
						return e.run(ctx, "rmi", "bench/bulk")
					},
					run: func(ctx context.Context) error { return e.run(ctx, "load", "-i", b.dir+"/saved.tar") },
				}
			}
			return nil
		},
	}
}

// unpacking is the row of a step that makes many files, which become a layer. Its floor is to unpack them, and to read them for
// their digest.
func unpacking() workload {
	return workload{
		name: "RUN that unpacks 170 MB", limits: []limit{{than: floor, ratio: 1.5}}, rounds: 5,
		prepare: func(ctx context.Context, b *bed) error {
			dir := b.context("unpack")
			if err := tree(b.dir+"/unpacked", 170_000_000); err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			if err := exec.CommandContext(ctx, "tar", "-C", b.dir+"/unpacked", "-cf", dir+"/tree.tar", ".").Run(); err != nil {
				return err
			}
			return b.write("unpack", "FROM bench/base\nRUN --mount=type=bind,target=/in mkdir /out && tar -C /out -xf /in/tree.tar\n")
		},
		do: func(b *bed, e *engine) *task {
			dir := b.context("unpack")
			switch e.name {
			case floor:
				return &task{
					before: func(context.Context, int) error { return os.RemoveAll(b.dir + "/out") },
					run: func(ctx context.Context) error {
						line := `mkdir "$1" && tar -C "$1" -xf "$2/tree.tar" && tar -C "$1" -c . | sha256sum`
						return exec.CommandContext(ctx, "sh", "-c", line, "sh", b.dir+"/out", dir).Run()
					},
				}
			case b.strata().name:
				return &task{run: func(ctx context.Context) error {
					return e.run(ctx, "build", "-q", "--no-cache", "-t", "bench/unpacked", dir)
				}}
			}
			return nil
		},
	}
}

// crowded is the row of a command on a store with many images and layers.
func crowded(name string, most time.Duration, args ...string) workload {
	return workload{
		name: name, limits: []limit{{most: most}}, prepare: crowd,
		do: func(b *bed, e *engine) *task {
			if e != b.strata() {
				return nil
			}
			return &task{run: func(ctx context.Context) error {
				return e.run(ctx, append([]string{"--root", b.dir + "/crowd"}, args...)...)
			}}
		},
	}
}

// crowd fills a store of its own with 1,000 images of five layers each that no other has.
func crowd(ctx context.Context, b *bed) error {
	if _, err := os.Stat(b.dir + "/crowd"); err == nil {
		return nil
	}
	out, err := os.Create(b.dir + "/crowd.tar")
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	if err := errors.Join(crowdMembers(w), w.Close()); err != nil {
		return err
	}
	return b.strata().run(ctx, "--root", b.dir+"/crowd", "load", "-q", "-i", b.dir+"/crowd.tar")
}

// crowdMembers writes them as docker's archive.
func crowdMembers(w *tar.Writer) error {
	member := func(name string, text []byte) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			return err
		}
		_, err := w.Write(text)
		return err
	}
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var manifest []entry
	for i := range 1000 {
		e := entry{Config: fmt.Sprintf("%d.json", i), RepoTags: []string{fmt.Sprintf("bench/crowd:%d", i)}}
		var ids, history []any
		for j := range 5 {
			text, err := tiny(fmt.Sprintf("%d of %d", j, i))
			if err != nil {
				return err
			}
			e.Layers = append(e.Layers, fmt.Sprintf("%d-%d.tar", i, j))
			ids = append(ids, fmt.Sprintf("sha256:%x", sha256.Sum256(text)))
			history = append(history, map[string]any{"created": "2024-01-02T03:04:05Z", "created_by": fmt.Sprintf("RUN echo %d of %d > /file", j, i)})
			if err := member(e.Layers[j], text); err != nil {
				return err
			}
		}
		config, err := json.Marshal(map[string]any{
			"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Env": []string{"PATH=/bin"}, "Cmd": []string{"sh"}},
			"rootfs": map[string]any{"type": "layers", "diff_ids": ids}, "history": history,
		})
		if err != nil {
			return err
		}
		if err := member(e.Config, config); err != nil {
			return err
		}
		manifest = append(manifest, e)
	}
	raw, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	return member("manifest.json", raw)
}

// tiny is a layer of one file.
func tiny(text string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(text))})
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	err = errors.Join(err, w.Close())
	return b.Bytes(), err
}

// heap makes a tar of 100,000 small files.
func heap(ctx context.Context, b *bed) error {
	dir := b.context("heap")
	for i := range 100 {
		if err := grow(filepath.Join(dir, fmt.Sprintf("d%d", i)), 1000, 100); err != nil {
			return err
		}
	}
	return exec.CommandContext(ctx, "tar", "-C", dir, "-cf", b.dir+"/heap.tar", ".").Run()
}

// bulky imports an image of 245 MB.
func bulky(ctx context.Context, b *bed) error {
	if _, err := os.Stat(b.dir + "/bulk.tar"); err == nil {
		return nil
	}
	dir := b.context("bulk")
	if err := tree(dir, 245_000_000); err != nil {
		return err
	}
	if err := exec.CommandContext(ctx, "tar", "-C", dir, "-cf", b.dir+"/bulk.tar", ".").Run(); err != nil {
		return err
	}
	return b.strata().run(ctx, "import", b.dir+"/bulk.tar", "bench/bulk")
}

// copySum is the floor of a save and a load: cat into a file, and sha256.
func copySum(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(io.MultiWriter(out, sha256.New()), in)
	return err
}
