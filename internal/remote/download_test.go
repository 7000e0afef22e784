package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/content"
	"strata/internal/errdef"
)

// random is n bytes that nothing compresses, always the same.
func random(n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(b)
	return b
}

// ranges serves one blob, in ranges too, and counts what it sends. hinder, if there is one, is asked before each piece of a
// body: it may wait or end the answer.
type ranges struct {
	blob   []byte
	whole  bool // knows no ranges
	hinder func(r *http.Request, from, at int64) error

	sent     atomic.Int64
	requests atomic.Int32
	mu       sync.Mutex
	open     int
	most     int // connections at a time
}

func (s *ranges) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	s.mu.Lock()
	s.open++
	s.most = max(s.most, s.open)
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.open--; s.mu.Unlock() }()
	from, to := int64(0), int64(len(s.blob))
	if v, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && !s.whole {
		var last int64
		if _, err := fmt.Sscanf(v, "%d-%d", &from, &last); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		to = last + 1
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, last, len(s.blob)))
	}
	w.Header().Set("Content-Length", strconv.FormatInt(to-from, 10))
	if w.Header().Get("Content-Range") != "" {
		w.WriteHeader(http.StatusPartialContent)
	}
	for at := from; at < to; {
		if s.hinder != nil {
			if err := s.hinder(r, from, at); err != nil {
				panic(http.ErrAbortHandler)
			}
		}
		n, err := w.Write(s.blob[at:min(at+32<<10, to)])
		s.sent.Add(int64(n))
		if at += int64(n); err != nil {
			return
		}
	}
}

// fetchSpooled fetches the whole blob of s through a spool in dir.
func fetchSpooled(t *testing.T, c *Client, s http.Handler, dir string, blob []byte) error {
	t.Helper()
	ref, desc := parse(t, serve(t, s)+"/app"), descriptor(blob)
	part, err := content.OpenPartials(dir, "").Take(t.Context(), desc.Digest, desc.Size, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	var arrived atomic.Int64
	arrived.Store(part.Resumed())
	r, err := c.Spooled(t.Context(), ref, desc, part, func(n int) { arrived.Add(int64(n)) })
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err == nil && (!bytes.Equal(got, blob) || arrived.Load() != desc.Size) {
		t.Errorf("%d bytes came, %d were told of, want %d", len(got), arrived.Load(), desc.Size)
	}
	return err
}

// fetchBlob fetches it through memory.
func fetchBlob(t *testing.T, c *Client, s http.Handler, _ string, blob []byte) error {
	t.Helper()
	r, err := c.Blob(t.Context(), parse(t, serve(t, s)+"/app"), descriptor(blob))
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err == nil && !bytes.Equal(got, blob) {
		t.Errorf("%d bytes came, or others", len(got))
	}
	return err
}

// ways are all ways to fetch a large blob.
func ways() map[string]func(*testing.T, *Client, http.Handler, string, []byte) error {
	return map[string]func(*testing.T, *Client, http.Handler, string, []byte) error{"through a file": fetchSpooled, "through memory": fetchBlob}
}

var errCutOff = errors.New("cut off")

func TestSpooled(t *testing.T) {
	blob := random(20<<20 + 12345)
	var cuts atomic.Int32
	for name, c := range map[string]struct {
		server *ranges
		check  func(s *ranges) string
	}{
		"as it should be": {&ranges{}, func(s *ranges) string {
			if s.requests.Load() < 3 {
				return "all in one answer"
			}
			return ""
		}},
		"no ranges": {&ranges{whole: true}, func(s *ranges) string {
			if s.requests.Load() != 1 {
				return fmt.Sprint(s.requests.Load(), " requests")
			}
			return ""
		}},
		"every connection breaks": {&ranges{hinder: func(_ *http.Request, from, at int64) error {
			if at > from+600<<10 {
				return errCutOff
			}
			return nil
		}}, nil},
		"no ranges, breaks three times": {&ranges{whole: true, hinder: func(_ *http.Request, _, at int64) error {
			if at > 4<<20*int64(cuts.Load()+1) && cuts.Add(1) <= 3 {
				return errCutOff
			}
			return nil
		}}, nil},
		"a slow line": {&ranges{hinder: func(r *http.Request, _, _ int64) error {
			select {
			case <-r.Context().Done():
			case <-time.After(10 * time.Millisecond):
			}
			return nil
		}}, func(s *ranges) string {
			if s.most < 3 || s.most > DefaultConnections {
				return fmt.Sprint(s.most, " connections at a time")
			}
			return ""
		}},
	} {
		for way, fetch := range ways() {
			t.Run(name+" "+way, func(t *testing.T) {
				cuts.Store(0)
				s := &ranges{blob: blob, whole: c.server.whole, hinder: c.server.hinder}
				if err := fetch(t, newClient(t), s, t.TempDir(), blob); err != nil {
					t.Fatal(err)
				}
				if n := s.sent.Load(); !s.whole && n != int64(len(blob)) {
					t.Errorf("%d bytes were sent of a blob of %d", n, len(blob))
				}
				if c.check != nil {
					if complaint := c.check(s); complaint != "" {
						t.Error(complaint)
					}
				}
			})
		}
	}
}

// TestSpooledGoesOn ends a transfer on our side three times, as a killed process would, and counts what the server sent.
func TestSpooledGoesOn(t *testing.T) {
	blob, dir := random(40<<20), t.TempDir()
	s := &ranges{blob: blob}
	ref, desc := parse(t, serve(t, s)+"/app"), descriptor(blob)
	var took int64
	for i := range 4 {
		part, err := content.OpenPartials(dir, "").Take(t.Context(), desc.Digest, desc.Size, nil)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && part.Resumed() < int64(i)*8<<20 {
			t.Errorf("resumed at %d", part.Resumed())
		}
		ctx, cancel := context.WithCancel(t.Context())
		var arrived atomic.Int64
		r, err := newClient(t).Spooled(ctx, ref, desc, part, func(n int) {
			if took := arrived.Add(int64(n)); i < 3 && took > 9<<20 {
				cancel()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if i < 3 && err == nil || i == 3 && (err != nil || !bytes.Equal(got, blob)) {
			t.Errorf("%d: %d bytes, %v", i, len(got), err)
		}
		r.Close()
		cancel()
		took += arrived.Load()
		if err := part.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if most := int64(len(blob)) * 105 / 100; took > most {
		t.Errorf("%d bytes arrived of a blob of %d", took, len(blob))
	}
}

// TestSlowReplaced has one connection that nearly stands still: it is given up, the others' bytes are not fetched again.
func TestSlowReplaced(t *testing.T) {
	blob := random(24 << 20)
	var drips atomic.Bool
	s := &ranges{blob: blob, hinder: func(r *http.Request, from, _ int64) error {
		wait := 2 * time.Millisecond
		if from > 0 && drips.CompareAndSwap(false, true) || r.Header.Get("Range") == "" {
			wait = time.Hour
		}
		select {
		case <-r.Context().Done():
			return errCutOff
		case <-time.After(wait):
			return nil
		}
	}}
	c := newClient(t)
	c.watch = watching{slow: 300 * time.Millisecond, least: time.Hour}
	if err := fetchSpooled(t, c, s, t.TempDir(), blob); err != nil || !drips.Load() {
		t.Error(err)
	}
	// On a busy machine others can look slow, too: what they had on the way is lost then.
	if n := s.sent.Load(); n > int64(len(blob))*130/100 {
		t.Errorf("%d bytes were sent of a blob of %d", n, len(blob))
	}
}

// TestSpooledRefused has servers from which the blob cannot be had.
func TestSpooledRefused(t *testing.T) {
	blob := random(12 << 20)
	var n atomic.Int32
	for name, c := range map[string]struct {
		serve func(w http.ResponseWriter, r *http.Request)
		class error
	}{
		"not there": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, errdef.ErrNotFound},
		"later not there": {func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) > 1 {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			(&ranges{blob: blob}).ServeHTTP(w, r)
		}, errdef.ErrDenied},
		"another range": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 5-9/%d", len(blob)))
			w.WriteHeader(http.StatusPartialContent)
		}, errdef.ErrCorrupt},
		"of another blob": {func(w http.ResponseWriter, r *http.Request) { (&ranges{blob: append(blob, 'x')}).ServeHTTP(w, r) }, errdef.ErrCorrupt},
		"always busy":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, errdef.ErrUnavailable},
		"busy for hours": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7200")
			w.WriteHeader(http.StatusTooManyRequests)
		}, errdef.ErrUnavailable},
		"breaks at once": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, errdef.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			for way, fetch := range ways() {
				n.Store(0)
				if err := fetch(t, newClient(t), http.HandlerFunc(c.serve), t.TempDir(), blob); !errors.Is(err, c.class) {
					t.Errorf("%s: %v, want %v", way, err, c.class)
				}
			}
		})
	}
	foreign := ocispec.Descriptor{Digest: digest.FromString("x"), URLs: []string{"https://elsewhere.example/x"}}
	if _, err := newClient(t).Spooled(t.Context(), parse(t, "localhost:1/app"), foreign, nil, nil); !errors.Is(err, errdef.ErrUnsupported) {
		t.Error(err)
	}
}

// TestSlowDrip has a server that sends a few bytes now and then, for ever.
func TestSlowDrip(t *testing.T) {
	blob := random(12 << 20)
	s := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(blob)))
		for at := range blob {
			if _, err := w.Write(blob[at : at+1]); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	c := newClient(t)
	c.watch = watching{slow: 50 * time.Millisecond, least: 100 * time.Millisecond}
	if err := fetchSpooled(t, c, s, t.TempDir(), blob); !errors.Is(err, errdef.ErrUnavailable) || !strings.Contains(err.Error(), "less than a kilobyte a second") {
		t.Error(err)
	}
}

// TestSpooledTLS holds that ranges come over connections of their own from a server that speaks HTTP/2 too, while other
// requests use that.
func TestSpooledTLS(t *testing.T) {
	blob := random(12 << 20)
	s := &ranges{blob: blob}
	var mu sync.Mutex
	spoken := map[string]string{} // protocol by method
	host := newAuthority(t).serveTLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		spoken[r.Method] = r.Proto
		mu.Unlock()
		if r.Method == http.MethodGet {
			s.ServeHTTP(w, r)
		}
	}), time.Now().Add(time.Hour), false)
	c, ref, desc := newClient(t, hosts(t, host, "skip_verify = true")), parse(t, host+"/app"), descriptor(blob)
	part, err := content.OpenPartials(t.TempDir(), "").Take(t.Context(), desc.Digest, desc.Size, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	for range 2 { // HTTP/2 is set up by the first request
		if _, err := c.HasBlob(t.Context(), ref, desc.Digest); err != nil {
			t.Fatal(err)
		}
	}
	r, err := c.Spooled(t.Context(), ref, desc, part, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, blob) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if spoken[http.MethodHead] != "HTTP/2.0" || spoken[http.MethodGet] != "HTTP/1.1" {
		t.Errorf("spoken: %v", spoken)
	}
}
