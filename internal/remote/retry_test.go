package remote

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"strata/internal/content"
	"strata/internal/errdef"
)

// TestStorm has a registry that refuses two requests of three for being too many, at random, most with a time to wait, but none more
// than four times in a row: pulls and pushes get through.
func TestStorm(t *testing.T) {
	var mu sync.Mutex
	random1 := rand.New(rand.NewPCG(1, 2))
	next, refused, inRow := plainRegistry(), 0, map[string]int{}
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		// Of an upload by its blob: each try has another place.
		request := r.Method + cmp.Or(r.URL.Query().Get("digest"), r.URL.Path) + r.Header.Get("Range")
		no, after := random1.IntN(3) > 0 && inRow[request] < 4, random1.IntN(4) > 0
		if inRow[request]++; no {
			refused++
		} else {
			inRow[request] = 0
		}
		mu.Unlock()
		if no {
			if after {
				w.Header().Set("Retry-After", "0")
			}
			refuse(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "slow down")
			return
		}
		next.ServeHTTP(w, r)
	}))
	c := newClient(t)
	partials := content.OpenPartials(t.TempDir(), "")
	group, ctx := errgroup.WithContext(t.Context())
	for i := range 4 {
		group.Go(func() error {
			ref := parse(t, host+"/app:"+string(rune('a'+i)))
			blob := random(6<<20 + i)
			if err := c.PutBlob(ctx, ref, descriptor(blob), opener(blob)); err != nil {
				return err
			}
			part, err := partials.Take(ctx, descriptor(blob).Digest, int64(len(blob)), nil)
			if err != nil {
				return err
			}
			defer part.Close()
			r, err := c.Spooled(ctx, ref, descriptor(blob), part, nil)
			if err != nil {
				return err
			}
			defer r.Close()
			got, err := io.ReadAll(r)
			if err == nil && !bytes.Equal(got, blob) {
				return errors.New("other bytes")
			}
			return err
		})
	}
	if err := group.Wait(); err != nil || refused == 0 {
		t.Errorf("%v, %d refused", err, refused)
	}
}

// TestRetryAfter holds that all requests to a host wait when it asks for that, and that it is told.
func TestRetryAfter(t *testing.T) {
	var asked atomic.Int32
	next := plainRegistry()
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	}))
	var told []string
	over := 0
	waited := make(chan time.Duration, 10)
	stop := make(chan time.Time)
	close(stop)
	g := &retrying{next: http.DefaultTransport, pause: time.Millisecond, name: func() string { return "registry r" },
		tell: func(_ context.Context, text string) func() { told = append(told, text); return func() { over++ } }}
	g.clock = func(d time.Duration) <-chan time.Time {
		waited <- d
		g.gate(host).mu.Lock()
		g.gate(host).until = time.Time{} // the time has passed
		g.gate(host).mu.Unlock()
		return stop
	}
	resp, err := (&http.Client{Transport: g}).Get("http://" + host + "/v2/")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(err)
	}
	resp.Body.Close()
	if d := <-waited; d < 20*time.Second || d > 35*time.Second || asked.Load() != 2 {
		t.Errorf("waited %v, asked %d times", d, asked.Load())
	}
	if len(told) != 1 || told[0] != "registry r asks to wait 30s" || over != 1 {
		t.Errorf("told %q, over %d times", told, over)
	}
}

// TestQuota holds that what a registry says of its limits is told when little is left, and with the refusal.
func TestQuota(t *testing.T) {
	left := []string{"50", "9", "8", "0"}
	var n atomic.Int32
	next := plainRegistry()
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := n.Add(1) - 1
		w.Header().Set("RateLimit-Limit", "100;w=21600")
		w.Header().Set("RateLimit-Remaining", left[min(int(i), 3)]+";w=21600")
		if i >= 3 {
			refuse(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "You have reached your pull rate limit")
			return
		}
		next.ServeHTTP(w, r)
	}))
	var told []string
	c, ref := newClient(t), parse(t, host+"/app:1")
	c.opt.Tell = func(_ context.Context, text string) func() { told = append(told, text); return func() {} }
	for range 3 {
		if _, err := c.HasBlob(t.Context(), ref, descriptor(nil).Digest); err != nil {
			t.Fatal(err)
		}
	}
	if len(told) != 1 || !strings.HasSuffix(told[0], ": 9 of 100 requests in 6h0m0s left") {
		t.Errorf("told %q", told)
	}
	_, err := c.Manifest(t.Context(), ref)
	if !errors.Is(err, errdef.ErrUnavailable) || !strings.Contains(err.Error(), "You have reached your pull rate limit; 0 of 100 requests in 6h0m0s left") || n.Load() != 4 {
		t.Errorf("asked %d times: %v", n.Load(), err)
	}
}

func FuzzQuota(f *testing.F) {
	f.Add("100;w=21600", "76;w=21600")
	f.Add("100, 100;window=60", "0")
	f.Fuzz(func(t *testing.T, limit, remaining string) {
		q, ok := readQuota(http.Header{"Ratelimit-Limit": {limit}, "Ratelimit-Remaining": {remaining}})
		if ok && (q.remaining < 0 || q.remaining > q.limit || q.window < 0) {
			t.Errorf("%+v", q)
		}
	})
}

func FuzzUploaded(f *testing.F) {
	f.Add("0-9")
	f.Add("bytes=0-0")
	f.Fuzz(func(t *testing.T, v string) {
		if n, ok := uploaded(v); n < 0 || !ok && n != 0 {
			t.Errorf("%q: %d, %v", v, n, ok)
		}
	})
}

// TestThrottle holds that many readers together get no more than the rate.
func TestThrottle(t *testing.T) {
	blob := random(1 << 20)
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(blob) }))
	by := &throttle{rate: 4 << 20}
	client := http.Client{Transport: &throttled{http.DefaultTransport, by}}
	start := time.Now()
	var group errgroup.Group
	for range 4 {
		group.Go(func() error {
			resp, err := client.Post("http://"+host+"/", octets, bytes.NewReader(nil))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.Copy(io.Discard, resp.Body)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 900*time.Millisecond { // 4 MB; the last piece is not waited for
		t.Errorf("4 MB at 4 MB a second took %v", took)
	}
}
