package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"oras.land/oras-go/v2/registry/remote/retry"
)

const (
	dialTimeout   = 15 * time.Second
	tlsTimeout    = 10 * time.Second
	answerTimeout = 30 * time.Second // from a request to the header of its answer
	commitTimeout = 10 * time.Minute // the same for an upload: the registry may copy and hash the whole blob before it answers
	idleTimeout   = 60 * time.Second // without a byte of an answer's body
	maxRedirects  = 10

	maxHeader  = 256 << 10 // of an answer, in bytes
	copyBuffer = 64 << 10

	maxRetries   = 3
	firstPause   = 250 * time.Millisecond
	longestPause = 3 * time.Second
)

// newHTTP makes the HTTP client for one endpoint.
func newHTTP(e *endpoint, t trust, dial, pause time.Duration) *http.Client {
	base := &byHost{
		host:   hostname(e.host),
		own:    &patient{newTransport(t.own, dial), answerTimeout, idleTimeout},
		others: &patient{newTransport(t.others, 0), answerTimeout, idleTimeout},
	}
	again := &retry.Transport{Base: base, Policy: func() retry.Policy { return policy{pause} }}
	return &http.Client{
		Transport:     &retrying{again: again, once: base},
		CheckRedirect: e.redirect,
	}
}

func newTransport(settings *tls.Config, dial time.Duration) *http.Transport {
	if dial == 0 {
		dial = dialTimeout
	}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dial, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:        settings,
		TLSHandshakeTimeout:    tlsTimeout,
		ResponseHeaderTimeout:  commitTimeout,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConnsPerHost:    8,
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         copyBuffer,
		WriteBufferSize:        copyBuffer,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
		DisableCompression:     true, // a blob's bytes are wanted as they are
	}
}

// redirect follows a redirect, but never from HTTPS to HTTP, and with nothing of ours once it has left the place that
// was asked. (Headers are those of the first request again, for each redirect.)
func (e *endpoint) redirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return errors.New("too many redirects")
	}
	if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("a redirect from HTTPS to %s://%s is not followed", req.URL.Scheme, req.URL.Host)
	}
	left := !sameOrigin(req.URL, via[0].URL)
	for _, r := range via {
		left = left || !sameOrigin(r.URL, via[0].URL)
	}
	if left {
		req.Header.Del("Authorization")
		for k := range e.header {
			req.Header.Del(k)
		}
	}
	return nil
}

// byHost keeps what was configured for one host (client certificates, unverified TLS) from others.
type byHost struct {
	host        string
	own, others http.RoundTripper
}

func (t *byHost) RoundTrip(req *http.Request) (*http.Response, error) {
	if strings.EqualFold(req.URL.Hostname(), t.host) {
		return t.own.RoundTrip(req)
	}
	return t.others.RoundTrip(req)
}

// patient bounds the time without any progress of an answer.
type patient struct {
	next         http.RoundTripper
	answer, idle time.Duration // for the header, and between two pieces of the body
}

var errSilent = errors.New("does not answer")

func (t *patient) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(t.answer, func() { cancel(errSilent) })
	if req.Method == http.MethodPut || req.Method == http.MethodPatch {
		timer.Stop() // the transport has a longer timeout of its own, which starts when all is sent
	}
	resp, err := t.next.RoundTrip(req.WithContext(ctx))
	timer.Stop()
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = &patientBody{resp.Body, ctx, cancel, timer, t.idle}
	return resp, nil
}

type patientBody struct {
	io.ReadCloser
	ctx    context.Context //nolint:containedctx // of the one request that this is the answer of
	cancel context.CancelCauseFunc
	timer  *time.Timer
	idle   time.Duration
}

func (b *patientBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.idle)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if err != nil && err != io.EOF && errors.Is(context.Cause(b.ctx), errSilent) {
		err = errSilent
	}
	return n, err
}

func (b *patientBody) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// retrying repeats requests, except those with a blob as body: half of it may be in the upload session already, so the
// whole upload is repeated by those who know how.
type retrying struct{ again, once http.RoundTripper }

func (t *retrying) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Header.Get("Content-Type") == octets && req.Body != nil {
		return t.once.RoundTrip(req)
	}
	return t.again.RoundTrip(req)
}

// policy repeats what a busy or broken server answered, for a few seconds in all.
type policy struct{ pause time.Duration }

// Retry is the time to wait before the next try, or -1.
func (p policy) Retry(attempt int, resp *http.Response, err error) (time.Duration, error) {
	if attempt >= maxRetries || (err == nil && !busy(resp.StatusCode)) || (err != nil && !broken(err)) {
		return -1, nil
	}
	wait := p.pause << attempt
	if err == nil {
		if asked, ok := retryAfter(resp.Header, time.Now()); ok {
			wait = asked
		}
	}
	if wait > longestPause {
		return -1, nil
	}
	return wait, nil
}

func busy(status int) bool {
	switch status {
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	case http.StatusTooManyRequests, http.StatusRequestTimeout:
		return true
	}
	return status >= 500
}

// broken reports whether a connection was lost that had been made: another one may hold.
func broken(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// retryAfter reads a Retry-After header: seconds or a date. See RFC 9110, section 10.2.3.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	v := h.Get("Retry-After")
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, at.Sub(now)), true
	}
	return 0, false
}

// hostname is host[:port] without the port.
func hostname(host string) string { return (&url.URL{Host: host}).Hostname() }
