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
	"strings"
	"time"
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
)

// newHTTP makes the HTTP client for one endpoint.
func newHTTP(e *endpoint, t trust, dial, pause time.Duration, slow *throttle) *http.Client {
	patience := func(settings *tls.Config, dial time.Duration, apart bool) http.RoundTripper {
		return &patient{newTransport(settings, dial, apart), answerTimeout, idleTimeout}
	}
	base := &byHost{
		host:   hostname(e.host),
		own:    [2]http.RoundTripper{patience(t.own, dial, false), patience(t.own, dial, true)},
		others: [2]http.RoundTripper{patience(t.others, 0, false), patience(t.others, 0, true)},
	}
	next := http.RoundTripper(base)
	if slow != nil {
		next = &throttled{base, slow}
	}
	again := &retrying{next: next, pause: pause, name: e.name, tell: e.tell, clock: time.After}
	return &http.Client{
		Transport:     again,
		CheckRedirect: e.redirect,
	}
}

// newTransport makes a transport. One that is apart gives each request a connection of its own: HTTP/2 would put them all on
// one, where a lost packet holds up every one of them.
func newTransport(settings *tls.Config, dial time.Duration, apart bool) *http.Transport {
	if dial == 0 {
		dial = dialTimeout
	}
	settings = settings.Clone() // http.Transport writes into it what it offers; nil stays nil
	if apart {
		if settings == nil {
			settings = &tls.Config{} //nolint:gosec // versions: Go's
		}
		settings.NextProtos = []string{"http/1.1"}
	}
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dial, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:        settings,
		TLSHandshakeTimeout:    tlsTimeout,
		ResponseHeaderTimeout:  commitTimeout,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConnsPerHost:    DefaultConnections,
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         copyBuffer,
		WriteBufferSize:        copyBuffer,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
		DisableCompression:     true, // a blob's bytes are wanted as they are
	}
	if apart {
		t.ForceAttemptHTTP2, t.HTTP2, t.TLSNextProto = false, nil, map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	return t
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
	own, others [2]http.RoundTripper // the usual one, and one whose connections are [apart]
}

func (t *byHost) RoundTrip(req *http.Request) (*http.Response, error) {
	i := 0
	if req.Context().Value(apartKey{}) != nil {
		i = 1
	}
	if strings.EqualFold(req.URL.Hostname(), t.host) {
		return t.own[i].RoundTrip(req)
	}
	return t.others[i].RoundTrip(req)
}

type apartKey struct{}

// apart marks requests that do not share a connection with others at the same time.
func apart(ctx context.Context) context.Context { return context.WithValue(ctx, apartKey{}, true) }

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

// hostname is host[:port] without the port.
func hostname(host string) string { return (&url.URL{Host: host}).Hostname() }
