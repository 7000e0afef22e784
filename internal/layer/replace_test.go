package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"strata/internal/atomicfile"
	"strata/internal/layer"
)

// TestReplacedStaysPromised: a layer that was flushed, and is made anew, is good after another boot without any more ado.
func TestReplacedStaysPromised(t *testing.T) {
	for form, o := range map[string]layer.Options{"dir": options(), "tar": tarForm()} {
		t.Run(form, func(t *testing.T) {
			boot := filepath.Join(t.TempDir(), "boot_id")
			o.BootIDPath = boot
			write := func(id string) {
				if err := os.WriteFile(boot, []byte(id), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("one")
			s, root := open(t, o)
			m := roundTrip(t, s, archive(t, entry(tar.TypeReg, "f", "content")))
			if err := s.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := s.Remake(t.Context(), m.DiffID); err != nil {
				t.Fatal(err)
			}
			if m.Form == "tar" {
				if err := s.Unpack(t.Context(), m.DiffID); err != nil {
					t.Fatal(err)
				}
			}
			write("two")
			s, err := layer.Open(filepath.Join(root, "layers"), o)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Check(t.Context(), m.DiffID, layer.Full); err != nil {
				t.Error(err)
			}
			empty(t, root)
		})
	}
}

// TestReplacedBesideOthers: while a layer is made anew again and again, it is there at every moment, and what others note in its record stays.
func TestReplacedBesideOthers(t *testing.T) {
	s, root := open(t, options())
	m := roundTrip(t, s, archive(t, entry(tar.TypeReg, "f", "content")))
	dir := filepath.Join(root, "layers", m.DiffID.Hex())
	ctx, stop := context.WithCancel(t.Context())
	noted := make(chan int)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			if err := s.AddBlob(t.Context(), m.DiffID, layer.Blob{Digest: digest.FromString(fmt.Sprint(n)), Size: 1}); err != nil {
				t.Error(err)
				break
			}
			time.Sleep(time.Millisecond) // the other has a turn
		}
		noted <- n
	}()
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		for ctx.Err() == nil {
			if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
				t.Error("the layer was gone for a moment")
				return
			}
		}
	}()
	for range 100 {
		if err := s.Remake(t.Context(), m.DiffID); err != nil {
			t.Error(err)
			break
		}
	}
	stop()
	n := <-noted
	<-looked
	got, err := s.Stat(m.DiffID)
	if err != nil || len(got.Blobs) != n {
		t.Errorf("%d blobs were noted, %d are known: %v", n, len(got.Blobs), err)
	}
	empty(t, root)
}

// TestSyncWaitsForSync: who finds nothing to flush, because another goroutine is at it, waits until that is done.
func TestSyncWaitsForSync(t *testing.T) {
	s, root := open(t, options())
	m := roundTrip(t, s, archive(t, entry(tar.TypeReg, "f", "content")))
	lock, err := atomicfile.LockExclusive(t.Context(), filepath.Join(root, "layers", m.DiffID.Hex(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	for range 2 {
		go func() { ended <- s.Sync(t.Context()) }()
		time.Sleep(50 * time.Millisecond) // the first waits for the lock then, with the layer in its hands
	}
	select {
	case err := <-ended:
		t.Fatalf("one did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-ended, <-ended); err != nil {
		t.Error(err)
	}
}

// TestSyncOfMany: however many layers are flushed together, each is good after another boot.
func TestSyncOfMany(t *testing.T) {
	o := tarForm()
	o.BootIDPath = filepath.Join(t.TempDir(), "boot_id")
	if err := os.WriteFile(o.BootIDPath, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, root := open(t, o)
	for n := range 40 {
		raw := archive(t, entry(tar.TypeReg, "f", fmt.Sprint(n)))
		if _, err := s.Ingest(t.Context(), bytes.NewReader(raw), ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.BootIDPath, []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := layer.Open(filepath.Join(root, "layers"), o)
	if err != nil {
		t.Fatal(err)
	}
	good := 0
	err = s.Walk(func(m layer.Meta) error {
		if _, err := s.Stat(m.DiffID); err == nil && m.Sealed {
			good++
		}
		return nil
	})
	if err != nil || good != 40 {
		t.Errorf("%d of 40 layers are good: %v", good, err)
	}
}
