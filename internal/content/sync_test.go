package content_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/content"
)

// TestSyncWaitsForSync: who finds nothing to flush, because another goroutine is at it, waits until that is done. A pipe in a blob's place
// holds up who opens it.
func TestSyncWaitsForSync(t *testing.T) {
	dir := t.TempDir()
	s, err := content.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Put([]byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "sha256", d.Encoded())
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	for range 2 {
		go func() { ended <- s.Sync() }()
		time.Sleep(50 * time.Millisecond) // the first has the blob in its hands then
	}
	select {
	case err := <-ended:
		t.Errorf("one did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	writer, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	for range 2 {
		select {
		case <-ended: // a pipe cannot be flushed, which they may say
		case <-time.After(time.Minute):
			t.Fatal("one does not end")
		}
	}
}
