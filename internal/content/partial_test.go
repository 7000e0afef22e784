package content_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"

	"strata/internal/content"
	"strata/internal/errdef"
)

const block = 64 << 10

// take takes a blob that nobody has.
func take(t require, p *content.Partials, d digest.Digest, size int64) *content.Partial {
	t.Helper()
	part, err := p.Take(context.Background(), d, size, func() { t.Fatalf("somebody has it") })
	if err != nil {
		t.Fatalf("%v", err)
	}
	return part
}

type require interface {
	Helper()
	Fatalf(format string, args ...any)
}

// TestPartialKeepsWhatArrived writes pieces in any order, gives the blob up now and then, and compares with a plain model.
func TestPartialKeepsWhatArrived(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		size := rapid.Int64Range(0, 5*block).Draw(t, "size")
		data := make([]byte, size)
		rng := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
		_, _ = rng.Read(data)
		d := digest.FromBytes(append(data, byte(n), byte(n>>8)))
		p := content.OpenPartials(dir, "")
		part := take(t, p, d, size)
		have := make([]bool, size)
		for range rapid.IntRange(0, 8).Draw(t, "steps") {
			if rapid.IntRange(0, 3).Draw(t, "what") == 0 {
				if err := part.Close(); err != nil {
					t.Fatal(err)
				}
				part = take(t, p, d, size)
			}
			from := rapid.Int64Range(0, size).Draw(t, "from")
			to := rapid.Int64Range(from, size).Draw(t, "to")
			if _, err := part.WriteAt(data[from:to], from); err != nil {
				t.Fatal(err)
			}
			if err := part.Done(from, to); err != nil {
				t.Fatal(err)
			}
			for b := int64(0); b < size; b += block {
				if end := min(b+block, size); from <= b && end <= to {
					for i := b; i < end; i++ {
						have[i] = true
					}
				}
			}
		}
		at := int64(0)
		for at < size {
			start, end := part.Gap(at)
			for i := at; i < start; i++ {
				if !have[i] {
					t.Fatalf("byte %d of %d counts and has not arrived", i, size)
				}
			}
			for i := start; i < end; i++ {
				if have[i] {
					t.Fatalf("byte %d of %d has arrived and does not count", i, size)
				}
			}
			got := make([]byte, start-at)
			if _, err := part.ReadAt(got, at); err != nil || !bytes.Equal(got, data[at:start]) {
				t.Fatalf("bytes %d to %d: %v", at, start, err)
			}
			at = end
		}
		if err := part.Remove(); err != nil {
			t.Fatal(err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Fatalf("left behind: %v", left)
		}
	})
}

func TestPartialOfAnotherBootOrSize(t *testing.T) {
	dir, d := t.TempDir(), digest.FromString("x")
	boot := filepath.Join(dir, "boot")
	write := func(id string) *content.Partials {
		if err := os.WriteFile(boot, []byte(id), 0o600); err != nil {
			t.Fatal(err)
		}
		return content.OpenPartials(filepath.Join(dir, "partial"), boot)
	}
	fill := func(p *content.Partials, size int64) int64 {
		part := take(t, p, d, size)
		defer part.Close()
		got := part.Resumed()
		if _, err := part.WriteAt(make([]byte, block), 0); err != nil {
			t.Fatal(err)
		}
		if err := part.Done(0, block); err != nil {
			t.Fatal(err)
		}
		return got
	}
	for i, c := range []struct {
		boot string
		size int64
		want int64
	}{{"one", 3 * block, 0}, {"one", 3 * block, block}, {"one", 2 * block, 0}, {"two", 2 * block, 0}, {"two", 2 * block, block}} {
		if got := fill(write(c.boot), c.size); got != c.want {
			t.Errorf("%d: resumed at %d, want %d", i, got, c.want)
		}
	}
	first := write("two")
	if _, err := first.Take(t.Context(), d, 1<<62, nil); !errors.Is(err, errdef.ErrLimit) {
		t.Errorf("a blob of 2^62 bytes: %v", err)
	}
	if _, err := first.Take(t.Context(), "sha256:../../x", 1, nil); !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("a digest that is a path: %v", err)
	}
}

// TestPartialIsTakenOnce has the second wait for the first.
func TestPartialIsTakenOnce(t *testing.T) {
	p, d := content.OpenPartials(t.TempDir(), ""), digest.FromString("x")
	part := take(t, p, d, block)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := p.Take(ctx, d, block, cancel); !errors.Is(err, context.Canceled) {
		t.Fatalf("taken twice: %v", err)
	}
	waits, got := make(chan struct{}), make(chan error)
	go func() {
		second, err := p.Take(t.Context(), d, block, func() { close(waits) })
		if err == nil {
			err = second.Close()
		}
		got <- err
	}()
	<-waits
	if err := part.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

func TestPartialsSweep(t *testing.T) {
	dir := t.TempDir()
	p := content.OpenPartials(dir, "")
	if freed, err := content.OpenPartials(filepath.Join(dir, "none"), "").Sweep(0, 0); freed != 0 || err != nil {
		t.Errorf("without a directory: %d, %v", freed, err)
	}
	names := []string{"old", "idle", "young"}
	for i, name := range names {
		part := take(t, p, digest.FromString(name), 8*block)
		if _, err := part.WriteAt(bytes.Repeat([]byte("x"), 8*block), 0); err != nil {
			t.Fatal(err)
		}
		if err := part.Close(); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(time.Duration(i-3) * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, digest.FromString(name).Encoded()), at, at); err != nil {
			t.Fatal(err)
		}
	}
	left := func() (names string) {
		for _, name := range []string{"old", "idle", "young"} {
			if _, err := os.Stat(filepath.Join(dir, digest.FromString(name).Encoded())); err == nil {
				names += name + " "
			}
		}
		return names
	}
	held := take(t, p, digest.FromString("old"), 8*block)
	for _, c := range []struct {
		age  time.Duration
		keep int64
		want string
	}{
		{24 * time.Hour, 1 << 30, "old idle young "},
		{150 * time.Minute, 1 << 30, "old idle young "}, // the old one is taken
		{90 * time.Minute, 1 << 30, "old young "},
		{24 * time.Hour, 10 * block, "old young "},
		{24 * time.Hour, 0, "old "},
	} {
		if _, err := p.Sweep(c.age, c.keep); err != nil || left() != c.want {
			t.Errorf("older than %v, at most %d: left %q, %v", c.age, c.keep, left(), err)
		}
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if freed, err := p.Sweep(0, 0); freed < 8*block || err != nil || left() != "" {
		t.Errorf("freed %d, %v, left %q", freed, err, left())
	}
}
