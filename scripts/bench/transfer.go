package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The registry of the rows about pull and push: docker's, on loopback.
const registryAddr = "127.0.0.1:5000"

const (
	pulledSize = 128 << 20 // of what is pulled, compressed, in two layers
	pushedSize = 245 << 20 // of what is pushed, as a tar
)

// mostMemory is what a process of strata's may have in any transfer.
const mostMemory = 150 << 20

// beside are the limits of a transfer next to other engines.
func beside(ratio float64, names ...string) []limit {
	all := []limit{{memory: mostMemory}}
	for _, name := range names {
		all = append(all, limit{than: name, ratio: ratio})
	}
	return all
}

// transferRows are pulls and pushes.
func transferRows() []workload {
	pulled, pushed := registryAddr+"/bench/pulled", registryAddr+"/bench/pushed"
	return []workload{
		{
			name: "pull 128 MB gzip, 15,000 files in two layers", limits: beside(0.6, "docker", "podman", "podman 5"),
			rounds: 5, cold: true, prepare: pullable,
			do: func(_ *bed, e *engine) *task {
				return e.moving(func(ctx context.Context, _ int) error { return e.forget(ctx, pulled) }, e.moves("pull", pulled))
			},
		},
		{
			name: "pull again", limits: []limit{{most: 50 * time.Millisecond}}, prepare: pullable,
			do: func(_ *bed, e *engine) *task { return e.twice(e.moves("pull", pulled)) },
		},
		{
			name: "push a fresh layer of 245 MB, gzip", limits: beside(0.6, "podman", "podman 5"),
			rounds: 5, cold: true, prepare: pushable,
			do: func(b *bed, e *engine) *task {
				return e.afresh(e.moving(b.emptyRegistry, e.moves("push", pushed)))
			},
		},
		{
			name: "gzip blob of it", limits: []limit{{than: "podman", ratio: 1.05}, {than: "podman 5", ratio: 1.05}}, prepare: pushable,
			gauge: func(ctx context.Context, b *bed, e *engine) (int64, error) { return b.pushedSize(ctx, e, pushed) },
		},
		{
			name: "push again", limits: []limit{{most: 50 * time.Millisecond}}, prepare: pushable,
			do: func(_ *bed, e *engine) *task { return e.twice(e.moves("push", pushed)) },
		},
		{
			name: "push a fresh layer of 245 MB, zstd", limits: beside(0.45, "podman", "podman 5"),
			rounds: 5, cold: true, prepare: pushable,
			do: func(b *bed, e *engine) *task {
				flags := map[string][]string{
					"strata":   {"--compression", "zstd", "--force-compression"},
					"podman":   {"--compression-format", "zstd"},
					"podman 5": {"--compression-format", "zstd"},
				}[e.name]
				if flags == nil {
					return nil
				}
				return e.afresh(e.moving(b.emptyRegistry, e.moves("push", pushed, flags...)))
			},
		},
	}
}

// moves is the command line of a pull or push; nil where the engine knows no registries.
func (e *engine) moves(verb, image string, flags ...string) []string {
	switch e.name {
	case "podman", "podman 5":
		flags = append([]string{"--tls-verify=false"}, flags...)
	case "strata", "docker":
	default:
		return nil
	}
	return append(append([]string{verb, "-q"}, flags...), image)
}

// moving is the task of a pull or push.
func (e *engine) moving(before func(context.Context, int) error, args []string) *task {
	if args == nil {
		return nil
	}
	return &task{before: before, run: func(ctx context.Context) error { return e.run(ctx, args...) }}
}

// twice is a pull or push of what was just pulled or pushed.
func (e *engine) twice(args []string) *task {
	return e.moving(func(ctx context.Context, _ int) error { return e.run(ctx, args...) }, args)
}

// afresh is a push for which nothing is kept of earlier ones.
func (e *engine) afresh(t *task) *task {
	if t == nil {
		return nil
	}
	return &task{before: t.before, run: func(ctx context.Context) error {
		usual := e.env
		e.env = append(e.env[:len(e.env):len(e.env)], "STRATA_BLOB_CACHE_MAX=0")
		defer func() { e.env = usual }()
		return t.run(ctx)
	}}
}

// forget removes an image that the engine may have.
func (e *engine) forget(ctx context.Context, image string) error {
	if err := e.run(ctx, "rmi", "-f", image); err != nil && !strings.Contains(strings.ToLower(err.Error()), "no such image") {
		return err
	}
	return nil
}

// serveRegistry starts the registry, or finds that it runs.
func (b *bed) serveRegistry(ctx context.Context) error {
	if b.distribution != nil {
		return nil
	}
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		return err
	}
	config := filepath.Join(b.dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: \":5000\"}\n", b.blobs())
	if err := errors.Join(os.WriteFile(config, []byte(text), 0o644), os.MkdirAll(b.blobs(), 0o755)); err != nil {
		return err
	}
	b.distribution = exec.Command(program, "serve", config)
	if err := b.distribution.Start(); err != nil {
		return err
	}
	for range 100 {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", registryAddr)
		if err == nil {
			return conn.Close()
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("docker-registry did not come up")
}

// blobs is where the registry has them.
func (b *bed) blobs() string { return filepath.Join(b.dir, "distribution") }

// emptyRegistry removes what was pushed, so that a push has to do it all again.
func (b *bed) emptyRegistry(context.Context, int) error {
	if err := os.RemoveAll(filepath.Join(b.blobs(), "docker")); err != nil {
		return err
	}
	return os.MkdirAll(b.blobs(), 0o755)
}

// pushedSize is the size of the largest blob that the engine pushes of an image.
func (b *bed) pushedSize(ctx context.Context, e *engine, image string) (largest int64, err error) {
	args := e.moves("push", image)
	if args == nil {
		return 0, nil
	}
	if err := b.emptyRegistry(ctx, 0); err != nil {
		return 0, err
	}
	if err := e.run(ctx, args...); err != nil {
		return 0, err
	}
	err = filepath.WalkDir(b.blobs(), func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		largest = max(largest, info.Size())
		return err
	})
	return largest, err
}

// pullable puts the image to be pulled into the registry.
func pullable(ctx context.Context, b *bed) error {
	if _, err := os.Stat(b.context("pulled")); err == nil {
		return nil
	}
	if err := b.serveRegistry(ctx); err != nil {
		return err
	}
	dir := b.context("pulled")
	for _, part := range []string{"a", "b"} {
		for i := range 50 {
			if err := grow(filepath.Join(dir, part, fmt.Sprintf("d%d", i)), 150, pulledSize/15_000); err != nil {
				return err
			}
		}
	}
	if err := b.write("pulled", "FROM bench/base\nCOPY a /a\nCOPY b /b\n"); err != nil {
		return err
	}
	return b.publish(ctx, "pulled")
}

// publish builds a context with strata and pushes it.
func (b *bed) publish(ctx context.Context, name string) error {
	image := registryAddr + "/bench/" + name
	for _, args := range [][]string{{"build", "-q", "-t", image, b.context(name)}, {"push", "-q", image}, {"rmi", image}, {"builder", "prune", "-af"}} {
		if err := b.strata().run(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// pushable gives every engine an image of one layer: half words, half random bytes, as programs are.
func pushable(ctx context.Context, b *bed) error {
	if b.imported {
		return nil
	}
	if err := b.serveRegistry(ctx); err != nil {
		return err
	}
	name := filepath.Join(b.dir, "pushed.tar")
	if err := writePushed(name); err != nil {
		return err
	}
	for _, e := range b.engines {
		if e.moves("push", "") == nil {
			continue
		}
		if err := e.run(ctx, "import", name, registryAddr+"/bench/pushed"); err != nil {
			return err
		}
	}
	b.imported = true
	return os.Remove(name)
}

func writePushed(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	random := rand.New(rand.NewPCG(1, 2))
	var words [1 << 12]string
	for i := range words {
		words[i] = fmt.Sprintf("%x ", random.Uint64N(1<<(8+random.Uint64N(40))))
	}
	w := tar.NewWriter(f)
	const files = 2000
	for i := range files {
		text := make([]byte, 0, pushedSize/files+64)
		for len(text) < pushedSize/files {
			text = append(text, words[random.IntN(len(words))]...)
			if random.IntN(4) == 0 {
				text = append(text, byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32()))
			}
		}
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("f%d", i), Mode: 0o644, Size: int64(len(text))}); err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), f.Close())
}
