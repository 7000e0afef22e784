package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// cacheIn opens a cache that waits for nothing.
func cacheIn(t testing.TB, o Options) *Cache {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	c := Open(o)
	c.pause = time.Millisecond
	return c
}

// serve answers with h until the test ends, and counts requests.
func serve(t testing.TB, h http.HandlerFunc) (url string, requests *atomic.Int32) {
	t.Helper()
	requests = &atomic.Int32{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, requests
}

// content reads a file and closes it.
func content(t testing.TB, f *File, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	raw, err := io.ReadAll(f.F)
	if err != nil {
		t.Fatal(err)
	}
	if sum := digest.FromBytes(raw); sum != f.Digest {
		t.Errorf("digest %s of %s", f.Digest, sum)
	}
	return string(raw)
}

var modified = time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)

func TestFileIsAskedForOnlyWhenItChanged(t *testing.T) {
	body, bodies := "one", 0
	url, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", fmt.Sprintf("%q", body))
		if r.Header.Get("If-None-Match") != fmt.Sprintf("%q", body) {
			bodies++
		}
		http.ServeContent(w, r, "x", modified, strings.NewReader(body))
	})
	c := cacheIn(t, Options{})
	for range 2 {
		f, err := c.File(t.Context(), url+"/x", "")
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.F.Stat()
		if err != nil || info.Mode() != 0o600 || !info.ModTime().Equal(modified) {
			t.Errorf("%v %v %v", info.Mode(), info.ModTime(), err)
		}
		if got := content(t, f, err); got != "one" {
			t.Errorf("%q", got)
		}
	}
	if bodies != 1 {
		t.Errorf("fetched %d times", bodies)
	}
	body = "two"
	f, err := c.File(t.Context(), url+"/x", "")
	if got := content(t, f, err); got != "two" || bodies != 2 {
		t.Errorf("%q, fetched %d times", got, bodies)
	}
	before := requests.Load()
	f, err = c.File(t.Context(), url+"/x", digest.FromString("two"))
	if got := content(t, f, err); got != "two" || requests.Load() != before {
		t.Errorf("%q after %d requests: with its digest a kept file needs none", got, requests.Load()-before)
	}
	entries, _ := filepath.Glob(filepath.Join(c.Dir, "url", "*", "data-*"))
	if len(entries) != 1 {
		t.Errorf("kept: %v", entries)
	}
}

func TestFileByDateAlone(t *testing.T) {
	status := 0
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		http.ServeContent(rec, r, "x", modified, strings.NewReader("x"))
		status = rec.Code
		http.ServeContent(w, r, "x", modified, strings.NewReader("x"))
	})
	c := cacheIn(t, Options{})
	for _, want := range []int{200, 304} {
		f, err := c.File(t.Context(), url, "")
		if got := content(t, f, err); got != "x" || status != want {
			t.Errorf("%q, status %d", got, status)
		}
	}
}

func TestFileWithoutDate(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") })
	f, err := cacheIn(t, Options{}).File(t.Context(), url, "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, _ := f.F.Stat(); info.ModTime().Unix() != 0 {
		t.Errorf("time %v", info.ModTime())
	}
}

// A server that ignores the condition and sends the same tag is believed too.
func TestFileSameTag(t *testing.T) {
	sent := &atomic.Int64{}
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `W/"1"`)
		n, _ := io.WriteString(w, "x")
		sent.Add(int64(n))
	})
	c := cacheIn(t, Options{})
	for range 2 {
		f, err := c.File(t.Context(), url, "")
		if got := content(t, f, err); got != "x" {
			t.Errorf("%q", got)
		}
	}
}

func TestFileChecksum(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") })
	c := cacheIn(t, Options{})
	if _, err := c.File(t.Context(), url, digest.FromString("y")); !errors.Is(err, errdef.ErrCorrupt) || !strings.Contains(errdef.Hint(err), digest.FromString("x").String()) {
		t.Errorf("%v, hint %q", err, errdef.Hint(err))
	}
	f, err := c.File(t.Context(), url, digest.SHA512.FromString("x"))
	if got := content(t, f, err); got != "x" {
		t.Errorf("%q", got)
	}
	if _, err := c.File(t.Context(), url, "sha256:00"); !errors.Is(err, errdef.ErrInvalid) {
		t.Error(err)
	}
}

func TestFileResumes(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 1<<16)
	for _, ranges := range []bool{true, false} {
		drops := 2
		url, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if !ranges {
				r.Header.Del("Range")
			}
			w.Header().Set("ETag", `"1"`)
			if drops > 0 {
				drops--
				http.ServeContent(&short{w, 300_000}, r, "x", modified, strings.NewReader(body))
				panic(http.ErrAbortHandler)
			}
			http.ServeContent(w, r, "x", modified, strings.NewReader(body))
		})
		f, err := cacheIn(t, Options{}).File(t.Context(), url, "")
		if got := content(t, f, err); got != body || requests.Load() != 3 {
			t.Errorf("%d bytes after %d requests", len(got), requests.Load())
		}
	}
}

// short takes so many bytes of a body and no more.
type short struct {
	http.ResponseWriter
	left int
}

func (s *short) Write(p []byte) (int, error) {
	n, err := s.ResponseWriter.Write(p[:min(len(p), s.left)])
	s.left -= n
	s.ResponseWriter.(http.Flusher).Flush()
	if err == nil && s.left == 0 {
		err = io.ErrShortWrite
	}
	return n, err
}

// What changed between two connections is begun anew, never mixed, also where the server does not look at If-Range.
func TestFileChangedMeanwhile(t *testing.T) {
	for _, ignores := range []string{"nothing", "If-Range", "tags", "times"} {
		first := true
		url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			body, tag, at := strings.Repeat("b", 1<<20+1), `"2"`, modified.Add(time.Hour)
			if first {
				body, tag, at = strings.Repeat("a", 1<<20), `"1"`, modified
			}
			if ignores != "nothing" {
				r.Header.Del("If-Range")
			}
			if ignores == "times" {
				at = modified
			}
			if ignores == "If-Range" {
				w.Header().Set("ETag", tag)
			}
			if first {
				first = false
				http.ServeContent(&short{w, 300_000}, r, "x", at, strings.NewReader(body))
				panic(http.ErrAbortHandler)
			}
			http.ServeContent(w, r, "x", at, strings.NewReader(body))
		})
		f, err := cacheIn(t, Options{}).File(t.Context(), url, "")
		if got := content(t, f, err); got != strings.Repeat("b", 1<<20+1) {
			t.Errorf("a server that ignores %s: %d bytes, %.3q", ignores, len(got), got)
		}
	}
}

// What is meant for a host is told to no other, and not in clear after TLS.
func TestFileRedirectLosesAuthorization(t *testing.T) {
	seen := make(chan string, 10)
	other, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { seen <- r.Header.Get("Authorization") })
	port := other[strings.LastIndexByte(other, ':'):]
	to := ""
	own, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/here" {
			seen <- r.Header.Get("Authorization")
			return
		}
		http.Redirect(w, r, to, http.StatusFound)
	})
	for _, c := range []struct{ to, want string }{{"/here", "Bearer tok"}, {other, ""}, {"http://localhost" + port, ""}} {
		to = c.to
		f, err := cacheIn(t, Options{Secrets: map[string][]byte{"HTTP_AUTH_TOKEN_127.0.0.1": []byte("tok")}}).File(t.Context(), own+"/there", "")
		content(t, f, err)
		if got := <-seen; got != c.want {
			t.Errorf("redirected to %s: %q", c.to, got)
		}
	}
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"http://h/a", "https://h/b", true}, {"https://h/a", "https://H:443/b", true}, {"https://h/a", "http://h/b", false},
		{"https://h/a", "https://x.h/b", false}, {"https://h/a", "https://h:8443/b", false}, {"http://h:8080/a", "https://h/b", false},
	} {
		from, _ := http.NewRequest(http.MethodGet, c.from, nil)
		to, _ := http.NewRequest(http.MethodGet, c.to, nil)
		if got := trusted(from.URL, to.URL); got != c.want {
			t.Errorf("from %s to %s: %v", c.from, c.to, got)
		}
	}
}

// A password is in no error, whatever it is made of.
func TestFilePasswordIsNotTold(t *testing.T) {
	for _, source := range []string{"http://me:secret%@127.0.0.1:1/x", "http://me:secret@127.0.0.1:1/x", "http://me:se/cret%@127.0.0.1:1/x"} {
		if _, err := cacheIn(t, Options{}).File(t.Context(), source, ""); err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "cret%") {
			t.Errorf("%v", err)
		}
	}
}

func TestFileFails(t *testing.T) {
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		want error
	}{
		"missing": {http.NotFound, errdef.ErrNotFound},
		"denied":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, errdef.ErrDenied},
		"busy":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, errdef.ErrUnavailable},
		"circle":  {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, errdef.ErrLimit},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, errdef.ErrUnavailable},
		"unasked":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, errdef.ErrUnavailable},
		"a middle": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPartialContent) }, errdef.ErrUnavailable},
	} {
		url, _ := serve(t, c.h)
		cache := cacheIn(t, Options{})
		if _, err := cache.File(t.Context(), url, ""); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := filepath.Glob(filepath.Join(cache.Dir, "url", "*", "*")); len(left) != 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
	if _, err := cacheIn(t, Options{}).File(t.Context(), "http://127.0.0.1:1/x", ""); !errors.Is(err, errdef.ErrUnavailable) {
		t.Error(err)
	}
}

func TestFileCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "x")
		w.(http.Flusher).Flush()
		cancel()
		select {
		case <-r.Context().Done():
		case <-done:
		}
	})
	_, err := cacheIn(t, Options{}).File(ctx, url, "")
	close(done)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestFileAuthorization(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("Authorization")) })
	for _, c := range []struct{ id, secret, want string }{{"HTTP_AUTH_HEADER_127.0.0.1", "Basic x", "Basic x"}, {"HTTP_AUTH_TOKEN_127.0.0.1", "tok", "Bearer tok"}, {"HTTP_AUTH_TOKEN_other", "tok", ""}} {
		cache := cacheIn(t, Options{Secrets: map[string][]byte{c.id: []byte(c.secret)}})
		f, err := cache.File(t.Context(), url, "")
		if got := content(t, f, err); got != c.want {
			t.Errorf("%s: %q", c.id, got)
		}
	}
}

// A file that is not the one that was hashed is fetched again.
func TestFileDamaged(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "x", modified, strings.NewReader("good"))
	})
	c := cacheIn(t, Options{})
	for range 2 {
		f, err := c.File(t.Context(), url, "")
		if got := content(t, f, err); got != "good" {
			t.Errorf("%q", got)
		}
		data, _ := filepath.Glob(filepath.Join(c.Dir, "url", "*", "data-*"))
		for changed := changeTime(t, data[0]); changed.Equal(changeTime(t, data[0])); { // until the kernel's clock has gone on
			if err := os.WriteFile(data[0], []byte("evil"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(data[0], modified, modified); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// changeTime is when anything of the file was changed last.
func changeTime(t *testing.T, name string) time.Time {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	return time.Unix(st.Ctim.Unix())
}

func TestListAndTrash(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") })
	c := cacheIn(t, Options{})
	f, err := c.File(t.Context(), strings.Replace(url, "//", "//u:secret@", 1)+"/y", "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := List(c.Dir)
	if err != nil || len(all) != 1 || !strings.HasSuffix(all[0].Name, "/y") || strings.Contains(all[0].Name, "secret") || all[0].Size == 0 || time.Since(all[0].Used) > time.Minute {
		t.Fatalf("%+v, %v", all, err)
	}
	if err := all[0].Trash(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if all, err = List(c.Dir); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	if got := content(t, f, nil); got != "x" {
		t.Errorf("a file that is open has gone: %q", got)
	}
}
