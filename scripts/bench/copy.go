package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// The context of the rows about COPY: about 270 MB.
const (
	copyFiles = 15_000
	copySize  = 18_000 // mean bytes of a file
)

// copyRows are builds whose time goes into a large context.
func copyRows() []workload {
	return []workload{
		{
			name:   "COPY . of 15,000 files and 270 MB, never seen before",
			limits: []limit{{than: exported, ratio: 0.3}}, rounds: 3, cold: true,
			do: func(b *bed, e *engine) *task {
				name := "fresh"
				t := e.build(building{dir: b.context(name)})
				if t != nil {
					t.before = func(context.Context, int) error { return source(b, name) }
				}
				return t
			},
		},
		{
			name:   "COPY ., no cache",
			limits: []limit{{than: exported, ratio: 0.3}}, rounds: 3, cold: true,
			prepare: known,
			do:      func(b *bed, e *engine) *task { return e.build(building{dir: b.context("source"), noCache: true}) },
		},
		{
			name: "COPY ., nothing changed", limits: []limit{{than: "BuildKit", ratio: 0.3}},
			prepare: known,
			do:      func(b *bed, e *engine) *task { return e.build(building{dir: b.context("source")}) },
		},
		{
			name: "COPY ., one file touched", limits: []limit{{than: exported, ratio: 0.3}}, rounds: 5,
			prepare: known,
			do: func(b *bed, e *engine) *task {
				t := e.build(building{dir: b.context("source")})
				if t != nil {
					t.before = func(context.Context, int) error {
						text := fmt.Sprintf("%s %d\n", e.name, time.Now().UnixNano())
						return os.WriteFile(filepath.Join(b.context("source"), "d7", "f77"), []byte(text), 0o644)
					}
				}
				return t
			},
		},
	}
}

// known makes the context of all rows but the first.
func known(_ context.Context, b *bed) error {
	if _, err := os.Stat(b.context("source")); err == nil {
		return nil
	}
	return source(b, "source")
}

// source makes a context anew, of the same names and other bytes, and waits until no file of it is younger than a second.
func source(b *bed, name string) error {
	dir := b.context(name)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	const dirs = 100
	for i := range dirs {
		if err := grow(filepath.Join(dir, fmt.Sprintf("d%d", i)), copyFiles/dirs, copySize); err != nil {
			return err
		}
	}
	time.Sleep(1100 * time.Millisecond)
	return b.write(name, "FROM bench/base\nCOPY . /src\nRUN echo > /done\n")
}

// grow makes a directory of files f0, f1, …, of half to one and a half times size random bytes.
func grow(dir string, files, size int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{byte(time.Now().UnixNano()), byte(time.Now().UnixNano() >> 8)})
	for i := range files {
		text := make([]byte, size/2+int(random.Uint64()%uint64(size)))
		_, _ = random.Read(text) // never fails
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d", i)), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
