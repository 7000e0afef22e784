package remote

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"strata/internal/errdef"
)

// held is how many bytes a blob that is being read has in memory.
func held(r io.Reader) int64 {
	w := r.(*download).spool.(*window)
	w.mu.Lock()
	defer w.mu.Unlock()
	return int64(len(w.panes)) * paneSize
}

// readSlowly reads blobs by turns, slower than they come, and gives the most that they had in memory together.
func readSlowly(t *testing.T, blob []byte, all ...io.ReadCloser) (most int64) {
	t.Helper()
	got, buf := make([]bytes.Buffer, len(all)), make([]byte, 256<<10)
	for left := len(all); left > 0; {
		time.Sleep(time.Millisecond)
		left = len(all)
		var now int64
		for i, r := range all {
			n, err := r.Read(buf)
			got[i].Write(buf[:n])
			now += held(r)
			switch {
			case err == io.EOF:
				left--
			case err != nil:
				t.Fatal(err)
			}
		}
		most = max(most, now)
	}
	for i, r := range all {
		if !bytes.Equal(got[i].Bytes(), blob) {
			t.Errorf("%d: %d bytes came, or others", i, got[i].Len())
		}
		if n := held(r); n > paneSize {
			t.Errorf("%d: %d bytes are held at the end", i, n)
		}
	}
	return most
}

// TestReadAhead has a fast server and slow readers: what waits in memory is bounded, however many there are.
func TestReadAhead(t *testing.T) {
	blob := random(2*readAhead + 4321)
	for name, s := range map[string]*ranges{"ranges": {}, "no ranges": {whole: true}} {
		t.Run(name, func(t *testing.T) {
			s.blob = blob
			ref, c := parse(t, serve(t, s)+"/app"), newClient(t)
			var all []io.ReadCloser
			for range 2 {
				r, err := c.Blob(t.Context(), ref, descriptor(blob))
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				all = append(all, r)
				// The first one takes what it may before the second is there, and has to keep it until it is read.
			}
			// They hold much of it before anybody reads, and no more than their share however slow the readers are.
			ahead := func() (n int64) {
				for _, r := range all {
					n += held(r)
				}
				return n
			}
			for end := time.Now().Add(time.Minute); ahead() < 4<<20 && time.Now().Before(end); time.Sleep(time.Millisecond) {
			}
			early := ahead()
			if most := max(early, readSlowly(t, blob, all...)); most > readAhead*3/2+4*paneSize || early < 4<<20 {
				t.Errorf("%d MiB were in memory before the first was read, at most %d", early>>20, most>>20)
			}
			for _, r := range all {
				if err := errors.Join(r.Close(), r.Close()); err != nil {
					t.Error(err)
				}
			}
			if n := c.ahead.Load(); n != 0 {
				t.Errorf("%d blobs count as open", n)
			}
		})
	}
}

// TestLatePart has a server that forgets about ranges while a part is missing, and one connection: that which brings all the rest has
// to give way to the part.
func TestLatePart(t *testing.T) {
	blob := random(2 * readAhead)
	// On a busy machine the time until the part may be tried again can be over before anything else was asked for: then it has more.
	for pause := 100 * time.Millisecond; ; pause *= 4 {
		switch n := latePart(t, blob, pause); {
		case n == 4:
			return
		case n != 2 || pause > 20*time.Second:
			t.Fatalf("%d requests: not a part, the rest, the part and the rest", n)
		}
	}
}

// latePart fetches the blob and gives the number of requests.
func latePart(t *testing.T, blob []byte, pause time.Duration) int32 {
	t.Helper()
	var asked atomic.Int32
	s := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		(&ranges{blob: blob, whole: n > 1, hinder: func(_ *http.Request, from, at int64) error {
			if n == 1 && at > from+paneSize {
				return errCutOff
			}
			return nil
		}}).ServeHTTP(w, r)
	})
	ref, c := parse(t, serve(t, s)+"/app"), newClient(t)
	c.opt.Limits = func() (Limits, error) { return Limits{Connections: 1}, nil }
	c.pause = pause
	r, err := c.Blob(t.Context(), ref, descriptor(blob))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	readSlowly(t, blob, r)
	return asked.Load()
}

// TestBlobRange reads a middle, from one place to the other.
func TestBlobRange(t *testing.T) {
	blob := random(9 << 20)
	for name, s := range map[string]*ranges{"ranges": {blob: blob}, "no ranges": {blob: blob, whole: true}} {
		ref, c := parse(t, serve(t, s)+"/app"), newClient(t)
		for _, at := range [][2]int64{{0, 0}, {5, 5}, {9 << 20, 9 << 20}, {0, 1}, {3<<20 + 1, 3<<20 + 2}, {77, 8 << 20}, {1 << 20, 9 << 20}} {
			r, err := c.BlobRange(t.Context(), ref, descriptor(blob), at[0], at[1])
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, blob[at[0]:at[1]]) {
				t.Errorf("%s: %d to %d: %d bytes, %v", name, at[0], at[1], len(got), err)
			}
			r.Close()
		}
		for _, at := range [][2]int64{{-1, 5}, {5, 4}, {0, 9<<20 + 1}} {
			if _, err := c.BlobRange(t.Context(), ref, descriptor(blob), at[0], at[1]); !errors.Is(err, errdef.ErrInvalid) {
				t.Errorf("%d to %d: %v", at[0], at[1], err)
			}
		}
	}
}
