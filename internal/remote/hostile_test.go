package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/oci"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// closedPort is an address where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	// It is taken, so that nobody else comes to listen there, and not listened on.
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint("127.0.0.1:", at.(*unix.SockaddrInet4).Port)
}

// TestHostileManifest is a registry that lies about manifests.
func TestHostileManifest(t *testing.T) {
	raw := manifestFor([]byte("{}"))
	d := descriptor(raw).Digest
	wrong := digest.FromString("something else")
	index := `{"schemaVersion":2,"manifests":[]}`
	for name, c := range map[string]struct {
		header map[string]string
		body   string
		asked  digest.Digest
		class  error
	}{
		"right":                    {map[string]string{"Content-Type": ocispec.MediaTypeImageManifest}, string(raw), d, nil},
		"right, with parameters":   {map[string]string{"Content-Type": ocispec.MediaTypeImageManifest + "; charset=utf-8"}, string(raw), d, nil},
		"type from the document":   {map[string]string{"Content-Type": "application/json"}, string(raw), d, nil},
		"type from the shape":      {nil, index, "", nil},
		"other bytes":              {map[string]string{"Content-Type": ocispec.MediaTypeImageManifest}, string(raw), wrong, errdef.ErrCorrupt},
		"announces another digest": {map[string]string{"Content-Type": ocispec.MediaTypeImageManifest, "Docker-Content-Digest": string(wrong)}, string(raw), "", errdef.ErrCorrupt},
		"types disagree":           {map[string]string{"Content-Type": ocispec.MediaTypeImageIndex}, string(raw), "", errdef.ErrInvalid},
		"shape disagrees":          {map[string]string{"Content-Type": ocispec.MediaTypeImageManifest}, index, "", errdef.ErrInvalid},
		"both at once":             {map[string]string{"Content-Type": ocispec.MediaTypeImageManifest}, `{"schemaVersion":2,"manifests":[],"layers":[]}`, "", errdef.ErrInvalid},
		"schema 1":                 {map[string]string{"Content-Type": dockerSchema1 + "+prettyjws"}, `{"schemaVersion":1,"fsLayers":[]}`, "", errdef.ErrUnsupported},
		"unknown type":             {map[string]string{"Content-Type": "text/html"}, `{}`, "", errdef.ErrUnsupported},
		"no JSON":                  {map[string]string{"Content-Type": ocispec.MediaTypeImageManifest}, `<html>`, "", errdef.ErrInvalid},
		"too long":                 {map[string]string{"Content-Type": ocispec.MediaTypeImageManifest}, strings.Repeat(" ", oci.MaxManifest+1), "", errdef.ErrLimit},
		"cut short":                {map[string]string{"Content-Type": ocispec.MediaTypeImageManifest, "Content-Length": "5000"}, string(raw), d, errdef.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for k, v := range c.header {
					w.Header().Set(k, v)
				}
				_, _ = io.WriteString(w, c.body)
			}))
			ref := parse(t, host+"/app:1")
			if c.asked != "" {
				ref = ref.WithDigest(c.asked)
			}
			_, err := newClient(t).Manifest(context.Background(), ref)
			if !errors.Is(err, c.class) {
				t.Errorf("%v, want %v", err, c.class)
			}
		})
	}
}

// endless never stops.
func endless(w http.ResponseWriter) {
	chunk := bytes.Repeat([]byte("x"), 1<<16)
	for {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func TestEndless(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusForbidden} {
		host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			endless(w)
		}))
		c, ctx, ref := newClient(t), context.Background(), parse(t, host+"/app:1")
		if _, err := c.Manifest(ctx, ref); err == nil {
			t.Error("an endless manifest")
		}
		if _, err := c.Tags(ctx, ref, 0); err == nil {
			t.Error("an endless list")
		}
		rc, err := c.Blob(ctx, ref, descriptor([]byte("short")))
		if err == nil {
			_, err = io.Copy(io.Discard, rc)
			rc.Close()
		}
		if err == nil {
			t.Error("an endless blob")
		}
	}
}

// TestHostileBlob is a registry that sends too much, too little, or from elsewhere.
func TestHostileBlob(t *testing.T) {
	blob := []byte("0123456789")
	for name, c := range map[string]struct {
		offset int64
		serve  func(w http.ResponseWriter, r *http.Request)
		want   string
		class  error
	}{
		"no ranges":       {4, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(blob) }, "456789", nil},
		"longer":          {0, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(append(blob, 'x')) }, "", errdef.ErrCorrupt},
		"longer, chunked": {0, func(w http.ResponseWriter, _ *http.Request) { chunked(w, append(blob, 'x')) }, "", errdef.ErrCorrupt},
		"shorter":         {0, func(w http.ResponseWriter, _ *http.Request) { chunked(w, blob[:4]) }, "0123", errdef.ErrUnavailable},
		"broken off": {0, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write(blob[:4])
		}, "0123", errdef.ErrUnavailable},
		"another range": {4, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-5/10")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(blob[:6])
		}, "", errdef.ErrCorrupt},
		"no such range": {4, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) }, "", errdef.ErrInvalid},
		"redirect loop": {0, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, "", errdef.ErrUnavailable},
		"odd redirect": {0, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, "", errdef.ErrUnavailable},
		"no target": {0, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) }, "", errdef.ErrInvalid},
		"huge challenge": {0, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", "Bearer realm=\""+strings.Repeat("x", 200<<10)+"\"")
			w.WriteHeader(http.StatusUnauthorized)
		}, "", errdef.ErrDenied},
		"huger header": {0, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 2<<20)) }, "", errdef.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			host := serve(t, http.HandlerFunc(c.serve))
			rc, err := newClient(t).BlobRange(context.Background(), parse(t, host+"/app"), descriptor(blob), c.offset, int64(len(blob)))
			var got []byte
			if err == nil {
				got, err = io.ReadAll(rc)
				rc.Close()
			}
			if string(got) != c.want || !errors.Is(err, c.class) {
				t.Errorf("%q, %v", got, err)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

func chunked(w http.ResponseWriter, b []byte) {
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	_, _ = w.Write(b)
}

// TestHTTPSToHTTP holds that nothing is fetched in the clear that was asked for with TLS.
func TestHTTPSToHTTP(t *testing.T) {
	plain := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("followed") }))
	host := newAuthority(t).serveTLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Location", "http://"+plain+"/upload")
			w.WriteHeader(http.StatusAccepted)
			return
		}
		http.Redirect(w, r, "http://"+plain+"/blob", http.StatusTemporaryRedirect)
	}), time.Now().Add(time.Hour), false)
	ref := parse(t, "r.example/app")
	c := newClient(t, hosts(t, "r.example", "server = \"https://"+host+"\"\nskip_verify = true"))
	if _, err := c.Blob(context.Background(), ref, descriptor([]byte("x"))); err == nil || !strings.Contains(err.Error(), "a redirect from HTTPS to http://"+plain+" is not followed") {
		t.Error(err)
	}
	other := strings.Replace(plain, "127.0.0.1", "localhost", 1) // another host than that of the registry
	plain = other
	if err := c.PutBlob(context.Background(), ref, descriptor(nil), opener(nil)); !errors.Is(err, errdef.ErrInvalid) {
		t.Error(err)
	}
}

// TestLocation has what registries answer to the start of an upload.
func TestLocation(t *testing.T) {
	blob := []byte("blob")
	for name, c := range map[string]struct {
		location string
		fails    bool
	}{
		"path": {"/there?state=a%2Bb", false}, "relative": {"there?state=a%2Bb", false}, "host": {"http://HOST/there?state=a%2Bb", false},
		"credentials in it": {"http://u:p@HOST/there?state=a%2Bb", false}, "none": {"", true}, "no URL": {"http://%zz/", true},
		"another scheme": {"ftp://HOST/there", true}, "file": {"file:///there", true},
	} {
		t.Run(name, func(t *testing.T) {
			host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got, _ := io.ReadAll(r.Body)
				switch {
				case r.Method == http.MethodPost:
					if c.location != "" {
						w.Header().Set("Location", strings.ReplaceAll(c.location, "HOST", r.Host))
					}
					w.WriteHeader(http.StatusAccepted)
				case strings.HasSuffix(r.URL.Path, "/there") && r.URL.Query().Get("state") == "a+b" && r.URL.Query().Get("digest") != "" && bytes.Equal(got, blob):
					w.WriteHeader(http.StatusCreated)
				default:
					t.Errorf("%s %s: %q", r.Method, r.URL, got)
				}
			}))
			err := newClient(t).PutBlob(context.Background(), parse(t, host+"/app"), descriptor(blob), opener(blob))
			if (err != nil) != c.fails || (c.fails && !errors.Is(err, errdef.ErrInvalid)) {
				t.Error(err)
			}
		})
	}
}

// TestLocationMended holds that a registry behind a TLS proxy may call itself http://.
func TestLocationMended(t *testing.T) {
	next := plainRegistry()
	host := newAuthority(t).serveTLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&locating{w, "http://127.0.0.1"}, r)
	}), time.Now().Add(time.Hour), false)
	c := newClient(t, hosts(t, host, "skip_verify = true"))
	push(t, c, parse(t, host+"/app:1"))
}

// locating puts a host before each Location.
type locating struct {
	http.ResponseWriter
	host string
}

func (w *locating) WriteHeader(status int) {
	if at := w.Header().Get("Location"); at != "" {
		w.Header().Set("Location", w.host+at)
	}
	w.ResponseWriter.WriteHeader(status)
}

// TestPages has lists that go on for ever, elsewhere, or as they should.
func TestPages(t *testing.T) {
	var n atomic.Int32
	link := ""
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := n.Add(1)
		if l := strings.ReplaceAll(link, "HOST", r.Host); l != "" && (!strings.HasPrefix(l, "once ") || i == 1) {
			w.Header().Set("Link", strings.TrimPrefix(l, "once "))
		}
		fmt.Fprintf(w, `{"name":"app","tags":["t%d"]}`, i)
	}))
	ref := parse(t, host+"/app")
	for _, c := range []struct {
		link  string
		limit int
		want  int
		class error
	}{
		{"", 0, 1, nil},
		{`once </v2/app/tags/list?last=t1&n=1>; rel="next"`, 0, 2, nil},
		{`once <list?last=t1>; rel=next`, 0, 2, nil},
		{`once <http://HOST/v2/app/tags/list>;foo="bar"; rel="next"`, 0, 2, nil},
		{`once </first>; rel="prev", </v2/app/tags/list>; rel="next"`, 0, 2, nil},
		{`</v2/app/tags/list>; rel="next"`, 3, 3, nil},
		{`</v2/app/tags/list>; rel="next"`, 0, 0, errdef.ErrLimit},
		{`<http://elsewhere.example/v2/app/tags/list>; rel="next"`, 0, 0, errdef.ErrInvalid},
		{`<file:///etc/passwd>; rel="next"`, 0, 0, errdef.ErrInvalid},
	} {
		n.Store(0)
		link = c.link
		tags, err := newClient(t).Tags(context.Background(), ref, c.limit)
		if !errors.Is(err, c.class) || (c.class == nil && len(tags) != c.want) {
			t.Errorf("%s: %d tags, %v", c.link, len(tags), err)
		}
	}
}

// TestBusy holds that a registry that is busy for a moment is asked again, and what is said of one that stays busy.
func TestBusy(t *testing.T) {
	var left atomic.Int32
	status, after := http.StatusServiceUnavailable, ""
	next := plainRegistry()
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if left.Add(-1) >= 0 {
			w.Header().Set("Retry-After", after)
			refuse(w, status, "TOOMANYREQUESTS", "slow down")
			return
		}
		next.ServeHTTP(w, r)
	}))
	c, ref := newClient(t), parse(t, host+"/app:1")
	for range 3 {
		left.Store(2)
		push(t, c, ref)
	}
	left.Store(1000)
	status, after = http.StatusTooManyRequests, "3600"
	_, err := c.Manifest(context.Background(), ref)
	if !errors.Is(err, errdef.ErrUnavailable) || !strings.Contains(err.Error(), "too many requests: slow down; try again in 1h0m0s") {
		t.Error(err)
	}
	if n := 1000 - left.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	err = c.PutBlob(context.Background(), ref, descriptor(nil), opener(nil))
	if n := 1000 - left.Load(); n != 2 || !errors.Is(err, errdef.ErrUnavailable) {
		t.Errorf("asked %d times: %v", n, err)
	}
	left.Store(1000)
	status, after = http.StatusBadGateway, ""
	if _, err := c.Head(context.Background(), ref); !errors.Is(err, errdef.ErrUnavailable) || 1000-left.Load() != 1+maxRetries {
		t.Errorf("asked %d times: %v", 1000-left.Load(), err)
	}
}

// TestUploadRepeated breaks uploads in the middle; they are repeated from their start.
func TestUploadRepeated(t *testing.T) {
	blob := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	next := plainRegistry()
	var breaks atomic.Int32
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") == octets && r.ContentLength != 0 && breaks.Add(-1) >= 0 {
			_, _ = io.CopyN(io.Discard, r.Body, 1000)
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	}))
	c, ctx, ref := newClient(t), context.Background(), parse(t, host+"/app")
	breaks.Store(2)
	if err := c.PutBlob(ctx, ref, descriptor(blob), opener(blob)); err != nil {
		t.Error(err)
	}
	breaks.Store(2)
	calls := 0
	d, n, err := c.StreamBlob(ctx, ref, func(w io.Writer) error {
		calls++
		_, err := io.Copy(w, bytes.NewReader(blob))
		return err
	})
	if err != nil || d != descriptor(blob).Digest || n != int64(len(blob)) || calls != 3 {
		t.Errorf("%s, %d, %d calls, %v", d, n, calls, err)
	}
	breaks.Store(100)
	blob = append(blob, "which is not there yet"...)
	if err := c.PutBlob(ctx, ref, descriptor(blob), opener(blob)); !errors.Is(err, errdef.ErrUnavailable) {
		t.Error(err)
	}
}

// TestOwnFailure holds that what fails on our side of an upload is told as it is, and is not tried again.
func TestOwnFailure(t *testing.T) {
	c, ctx, ref := newClient(t), context.Background(), parse(t, serve(t, plainRegistry())+"/app")
	mine, calls := errors.New("disk on fire"), 0
	if _, _, err := c.StreamBlob(ctx, ref, func(w io.Writer) error {
		calls++
		_, _ = io.WriteString(w, "some")
		return mine
	}); !errors.Is(err, mine) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
	open := func() (io.ReadCloser, error) { calls++; return nil, mine }
	if err := c.PutBlob(ctx, ref, descriptor([]byte("x")), open); !errors.Is(err, mine) || calls != 2 {
		t.Errorf("%d calls, %v", calls, err)
	}
	for _, bytes := range []string{"short", "much longer than it should be"} {
		err := c.PutBlob(ctx, ref, ocispec.Descriptor{Digest: digest.FromString("x"), Size: 10}, opener([]byte(bytes)))
		if !errors.Is(err, errdef.ErrCorrupt) {
			t.Errorf("%s: %v", bytes, err)
		}
	}
}

// TestEarlyAnswer holds that a registry that refuses an upload before it has read it does not hang the writer.
func TestEarlyAnswer(t *testing.T) {
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Location", "/up")
			w.WriteHeader(http.StatusAccepted)
			return
		}
		refuse(w, http.StatusForbidden, "DENIED", "quota is used up")
	}))
	_, _, err := newClient(t).StreamBlob(context.Background(), parse(t, host+"/app"), func(w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return err
			}
		}
	})
	if !errors.Is(err, errdef.ErrDenied) || !strings.Contains(err.Error(), "quota is used up") {
		t.Error(err)
	}
}

// TestCancel holds that a cancelled context ends each request at once, whatever the server does.
func TestCancel(t *testing.T) {
	stop := make(chan struct{})
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Location", "/up")
			w.WriteHeader(http.StatusAccepted)
			return
		}
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	}))
	defer close(stop)
	c, ref := newClient(t), parse(t, host+"/app:1")
	for name, do := range map[string]func(ctx context.Context) error{
		"manifest": func(ctx context.Context) error { _, err := c.Manifest(ctx, ref); return err },
		"put": func(ctx context.Context) error {
			return c.PutBlob(ctx, ref, descriptor([]byte("x")), opener([]byte("x")))
		},
		"stream": func(ctx context.Context) error {
			_, _, err := c.StreamBlob(ctx, ref, func(w io.Writer) error {
				for {
					if _, err := w.Write(make([]byte, 1<<16)); err != nil {
						return err
					}
				}
			})
			return err
		},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(20*time.Millisecond, cancel)
		if err := do(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSilence holds that a server that says nothing more is not waited for for ever.
func TestSilence(t *testing.T) {
	stop := make(chan struct{})
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			chunked(w, []byte("some"))
			w.(http.Flusher).Flush()
		}
		<-stop
	}))
	defer close(stop)
	c := http.Client{Transport: &patient{http.DefaultTransport, 20 * time.Millisecond, time.Minute}}
	if _, err := c.Get("http://" + host + "/"); !errors.Is(err, errSilent) {
		t.Errorf("no answer: %v", err)
	}
	c.Transport.(*patient).answer = time.Minute
	resp, err := c.Get("http://" + host + "/body")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := make([]byte, len("some"))
	if _, err := io.ReadFull(resp.Body, got); string(got) != "some" {
		t.Errorf("%q, %v", got, err)
	}
	resp.Body.(*patientBody).idle = 20 * time.Millisecond
	if n, err := resp.Body.Read(got); n != 0 || !errors.Is(err, errSilent) {
		t.Errorf("no more: %d bytes, %v", n, err)
	}
}

// TestWrongPush holds that a registry that keeps something else than it was sent is noticed.
func TestWrongPush(t *testing.T) {
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Docker-Content-Digest", string(digest.FromString("else")))
		w.Header().Set("Location", "/up")
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.WriteHeader(http.StatusCreated)
	}))
	c, ctx, ref := newClient(t), context.Background(), parse(t, host+"/app:1")
	if err := c.PutBlob(ctx, ref, descriptor(nil), opener(nil)); !errors.Is(err, errdef.ErrCorrupt) {
		t.Error(err)
	}
	if _, err := c.PutManifest(ctx, ref, ocispec.MediaTypeImageManifest, manifestFor(nil)); !errors.Is(err, errdef.ErrCorrupt) {
		t.Error(err)
	}
}
