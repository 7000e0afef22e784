package remote

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestMergeScopes(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "x": "x",
		"repository:a:pull":                                            "repository:a:pull",
		"repository:a:push,pull repository:a:pull":                     "repository:a:pull,push",
		"repository:b:pull repository:a:pull,push":                     "repository:a:pull,push repository:b:pull",
		"repository:a:pull repository:a:* x x registry:catalog:*":      "registry:catalog:* repository:a:* x",
		"repository:host:5000/a:pull repository:host:5000/a:push,pull": "repository:host:5000/a:pull,push",
	} {
		if got := strings.Join(mergeScopes(strings.Fields(in)), " "); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

// TestMayAsk holds where a registry may send us for a token: addresses are looked at only where the host is another.
func TestMayAsk(t *testing.T) {
	for _, c := range []struct {
		registry, service string
		want              bool
	}{
		{"https://192.0.2.1", "https://192.0.2.2/token", true},
		{"https://192.0.2.1", "http://192.0.2.1/token", false},
		{"http://192.0.2.1", "http://192.0.2.2/token", true},
		{"https://192.0.2.1", "https://192.0.2.1:8443/token", true},
		{"https://192.0.2.1", "https://10.0.0.1/token", false},
		{"https://192.0.2.1", "https://169.254.169.254/token", false},
		{"https://192.0.2.1", "https://100.64.0.1/token", false},
		{"https://192.0.2.1", "https://[::ffff:127.0.0.1]/token", false},
		{"https://192.0.2.1", "https://0.0.0.0/token", false},
		{"https://192.0.2.1", "https://localhost/token", false},
		{"https://10.0.0.1", "https://10.0.0.2/token", true},
		{"http://localhost:5000", "http://127.0.0.1:5001/token", true},
		{"https://192.0.2.1", "file:///etc/passwd", false},
		{"https://192.0.2.1", "/token", false},
	} {
		registry, _ := url.Parse(c.registry)
		service, _ := url.Parse(c.service)
		if err := mayAsk(context.Background(), registry, service); (err == nil) != c.want {
			t.Errorf("%s for %s: %v", c.service, c.registry, err)
		}
	}
}

// TestTokenServiceElsewhere holds that neither a password nor an identity token follows a token service's redirect to
// another place.
func TestTokenServiceElsewhere(t *testing.T) {
	for entry, want := range map[string]string{userEntry(): "", `{"identitytoken":"refresh-me"}`: "redirects a login"} {
		var seen []string
		thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body := r.FormValue("refresh_token")
			seen = append(seen, r.Header.Get("Authorization")+body)
			_, _ = w.Write([]byte(`{"token":"of the thief"}`))
		}))
		var registry *httptest.Server
		registry = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
				return
			}
			w.Header().Set("Www-Authenticate", `Bearer realm="`+registry.URL+`/token"`)
			w.WriteHeader(http.StatusUnauthorized)
		}))
		host := strings.TrimPrefix(registry.URL, "http://")
		c := newClient(t)
		credentialsFor(t, os.Getenv("HOME"), host, entry)
		_, err := c.Manifest(context.Background(), parse(t, host+"/app:1"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", entry, err)
		}
		if slices.ContainsFunc(seen, func(s string) bool { return s != "" }) {
			t.Errorf("%s: the other place got %q", entry, seen)
		}
		registry.Close()
		thief.Close()
	}
}
