package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"strata/internal/errdef"
	"strata/internal/reference"
)

const (
	maxErrorBody = 64 << 10
	maxErrorText = 300
)

// refusal is what a registry answered instead of doing what it was asked.
type refusal struct {
	status int
	code   string // of the distribution specification: "MANIFEST_UNKNOWN"; "" if it gave none
	text   string
	after  time.Duration // when to try again; 0 if it did not say
}

// Error is the registry's own text, or the status' if it had none.
func (r *refusal) Error() string {
	if r.text != "" {
		return r.text
	}
	return strings.ToLower(http.StatusText(r.status))
}

// readRefusal reads an answer that is an error and closes it.
func readRefusal(resp *http.Response) *refusal {
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	r := &refusal{status: resp.StatusCode}
	r.code, r.text = parseErrorBody(body, resp.Header.Get("Content-Type"))
	r.after, _ = retryAfter(resp.Header, time.Now())
	return r
}

// parseErrorBody finds code and message in a body of the distribution specification's form
// ({"errors":[{"code","message","detail"}]}), of the form {"message": …} or {"detail": …} that token services use, or in
// a line of plain text.
func parseErrorBody(body []byte, contentType string) (code, text string) {
	var doc struct {
		Errors []struct {
			Code    string          `json:"code"`
			Message string          `json:"message"`
			Detail  json.RawMessage `json:"detail"`
		} `json:"errors"`
		Message string          `json:"message"`
		Details string          `json:"details"`
		Detail  json.RawMessage `json:"detail"`
	}
	if err := json.Unmarshal(body, &doc); err != nil && len(doc.Errors) == 0 {
		if strings.HasPrefix(contentType, "text/plain") {
			line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
			return "", short(line)
		}
		return "", ""
	}
	if len(doc.Errors) == 0 {
		for _, s := range []string{doc.Message, doc.Details, word(doc.Detail)} {
			if s != "" {
				return "", short(s)
			}
		}
		return "", ""
	}
	first := doc.Errors[0]
	text = first.Message
	if text == "" {
		text = strings.ToLower(strings.ReplaceAll(first.Code, "_", " "))
	}
	if detail := word(first.Detail); detail != "" && detail != text {
		text += ": " + detail
	}
	return short(first.Code), short(text)
}

// word is raw if it is a JSON string.
func word(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// short is foreign text fit for one line.
func short(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if runes := []rune(s); len(runes) > maxErrorText {
		s = string(runes[:maxErrorText]) + "…"
	}
	return s
}

// subject is what a request was about, for errors.
type subject struct {
	noun string // "manifest for ubuntu:24.04"
	repo string // as a person types it; "" if it was about the whole registry
	push bool
}

func pulled(noun string, ref reference.Ref) subject {
	return subject{noun: noun, repo: ref.FamiliarName()}
}

func pushed(ref reference.Ref) subject {
	return subject{noun: "push to " + ref.FamiliarName(), repo: ref.FamiliarName(), push: true}
}

// refused makes the error for an answer that is not the one wanted, and closes it.
func (e *endpoint) refused(resp *http.Response, about subject) error {
	return e.classify(readRefusal(resp), about)
}

func (e *endpoint) classify(r *refusal, about subject) error {
	what := about.noun
	switch {
	case r.status == http.StatusUnauthorized, r.status == http.StatusForbidden, r.code == "DENIED", r.code == "UNAUTHORIZED":
		return e.denied(r, about)
	case r.status == http.StatusTooManyRequests, r.code == "TOOMANYREQUESTS":
		return e.tooMany(r)
	case r.status >= 500:
		return fmt.Errorf("%s: answered %d: %w: %w", e.name(), r.status, r, errdef.ErrUnavailable)
	case r.status == http.StatusNotFound, r.code == "MANIFEST_UNKNOWN", r.code == "NAME_UNKNOWN", r.code == "BLOB_UNKNOWN":
		if e.mirror {
			what += ": " + e.name()
		}
		if r.text == "" {
			return fmt.Errorf("%s: %w", what, errdef.ErrNotFound)
		}
		return fmt.Errorf("%s: %w: %w", what, r, errdef.ErrNotFound)
	case r.status == http.StatusMethodNotAllowed, r.code == "UNSUPPORTED":
		return fmt.Errorf("%s: %s: %w: %w", what, e.name(), r, errdef.ErrUnsupported)
	case r.status < 400:
		return fmt.Errorf("%s: %s gave an answer that is none (status %d): %w", what, e.name(), r.status, errdef.ErrInvalid)
	}
	return fmt.Errorf("%s: %s: %w: %w", what, e.name(), r, errdef.ErrInvalid)
}

func (e *endpoint) denied(r error, about subject) error {
	err := fmt.Errorf("%s: access denied: %w: %w", e.name(), r, errdef.ErrDenied)
	switch {
	case about.repo == "":
	case about.push:
		err = fmt.Errorf("push access denied for %s: %w: %w", about.repo, r, errdef.ErrDenied)
	default:
		err = fmt.Errorf("pull access denied for %s, repository does not exist or may require a login: %w: %w", about.repo, r, errdef.ErrDenied)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.problems) > 0 {
		return errdef.WithHint(err, "no credentials could be read: "+strings.Join(e.problems, "; "))
	}
	return errdef.WithHint(err, "log in: `"+e.loginLine()+"`")
}

func (e *endpoint) loginLine() string {
	if e.account() == dockerHub {
		return "strata login"
	}
	return "strata login " + e.account()
}

func (e *endpoint) tooMany(r *refusal) error {
	text := ""
	e.mu.Lock()
	if e.left != nil {
		text = "; " + e.left.String()
	}
	e.mu.Unlock()
	if r.after > 0 {
		text += "; try again in " + r.after.Round(time.Second).String()
	}
	err := fmt.Errorf("%s: too many requests: %w%s: %w", e.name(), r, text, errdef.ErrUnavailable)
	return errdef.WithHint(err, "registries allow more to those who log in: `"+e.loginLine()+"`")
}

// explain says in plain words why a request got no answer.
func (e *endpoint) explain(ctx context.Context, err error, about subject) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", e.name(), context.Cause(ctx))
	}
	var local *localError
	if errors.As(err, &local) {
		return local.error
	}
	var token *tokenRefusal
	if errors.As(err, &token) {
		return e.tokenRefused(token.refusal, about)
	}
	if errors.Is(err, errNoCredential) {
		return e.denied(errNoCredential, about)
	}
	text, hint := e.plain(err)
	err = fmt.Errorf("%s: %s: %w", e.name(), text, errdef.ErrUnavailable)
	if hint != "" {
		err = errdef.WithHint(err, hint)
	}
	return err
}

// tokenRefused is what the token service of a registry said.
func (e *endpoint) tokenRefused(r *refusal, about subject) error {
	if r.status == http.StatusBadRequest || r.status == http.StatusNotFound {
		r.status = http.StatusForbidden
	}
	return e.classify(r, about)
}

// plain gives a short text for the error of a connection, and a hint.
func (e *endpoint) plain(err error) (text, hint string) {
	host := e.host
	var u *url.Error
	if errors.As(err, &u) {
		if at, e := url.Parse(u.URL); e == nil && at.Host != "" {
			host = at.Host
		}
		err = u.Err
	}
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return unreachableProxy(op), "HTTPS_PROXY and HTTP_PROXY name the proxy, NO_PROXY the hosts that need none"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "cannot look up " + dns.Name + ": no such host", hintNetwork(host)
	case errors.As(err, &dns):
		return "cannot look up " + dns.Name + ": no answer from the name server", hintNetwork(host)
	case errors.Is(err, syscall.ECONNREFUSED):
		return host + " refuses the connection", "is the registry running?"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "there is no way to " + host, hintNetwork(host)
	case errors.Is(err, errSilent), isTimeout(err):
		return host + " does not answer", hintNetwork(host)
	case errors.Is(err, http.ErrSchemeMismatch):
		return host + " speaks plain HTTP, not HTTPS", e.hintHTTP()
	case errors.Is(err, io.EOF), broken(err):
		return host + " broke the connection", e.hintBroken(u)
	}
	if text, hint := e.plainTLS(err, host); text != "" {
		return text, hint
	}
	return short(err.Error()), e.hintBroken(u)
}

// hintBroken is the hint for a connection with TLS that broke before there was an answer: a server that wants a client
// certificate says so only after the handshake, and what it says can get lost.
func (e *endpoint) hintBroken(u *url.Error) string {
	if u == nil || !strings.HasPrefix(u.URL, "https:") {
		return ""
	}
	return e.hintClient()
}

// unreachableProxy says what is wrong with the proxy.
func unreachableProxy(op *net.OpError) string {
	var dns *net.DNSError
	var dial *net.OpError
	var errno syscall.Errno
	switch {
	case errors.As(op.Err, &dns):
		return "cannot look up the proxy " + dns.Name
	case errors.As(op.Err, &dial) && dial.Addr != nil && errors.As(dial, &errno):
		return "the proxy " + dial.Addr.String() + " cannot be reached: " + errno.Error()
	}
	return "the proxy cannot be reached: " + short(op.Err.Error())
}

func hintNetwork(host string) string {
	return "is there a network? `curl -v https://" + host + "/v2/` tells more"
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// plainTLS is plain for what goes wrong with certificates.
func (e *endpoint) plainTLS(err error, host string) (text, hint string) {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var header tls.RecordHeaderError
	var alert tls.AlertError
	var op *net.OpError
	switch {
	case errors.As(err, &unknown):
		return "the certificate of " + host + " is signed by an authority that is not known here", e.hintAuthority()
	case errors.As(err, &name):
		return "the certificate of " + host + " is for another host: " + strings.TrimPrefix(short(name.Error()), "x509: "), ""
	case errors.As(err, &invalid):
		return "the certificate of " + host + " is not valid: " + strings.TrimPrefix(short(invalid.Error()), "x509: "), ""
	case errors.As(err, &header):
		return host + " speaks plain HTTP, not HTTPS", e.hintHTTP()
	case errors.As(err, &alert), errors.As(err, &op) && op.Op == "remote error":
		return host + " refuses the TLS connection: " + short(err.Error()), e.hintClient()
	}
	return "", ""
}

// localError is a failure on our side of an upload: the reader of the blob's bytes.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

// alsoMirrors adds to the registry's own error what its mirrors said. That they do not have it is told only where nobody
// else could be asked.
func alsoMirrors(err error, failed []error) error {
	unavailable := errors.Is(err, errdef.ErrUnavailable)
	for _, f := range failed {
		if unavailable || !errors.Is(f, errdef.ErrNotFound) {
			err = errdef.WithHint(&withMirror{err, f}, errdef.Hint(err))
		}
	}
	return err
}

// withMirror is a registry's error with that of a mirror in its text; its class is the registry's.
type withMirror struct {
	error
	mirror error
}

func (e *withMirror) Error() string {
	return e.error.Error() + " (before that, " + e.mirror.Error() + ")"
}
func (e *withMirror) Unwrap() error { return e.error }

// onlyMirrors is the error where the registry itself is not to be asked.
func onlyMirrors(ref reference.Ref, failed []error) error {
	if len(failed) > 0 {
		return failed[len(failed)-1]
	}
	return fmt.Errorf("registry %s: no host of its hosts.toml may be asked for this: %w", ref.Domain, errdef.ErrUnavailable)
}
