package remote

import (
	"context"
	"maps"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzHosts(f *testing.F) {
	f.Add("server = \"https://r.example\"\n[host.\"https://m.example/x\"]\ncapabilities = [\"pull\"]\nclient = [[\"a\", \"b\"]]\n[host.\"https://m.example/x\".header]\na = [\"b\"]")
	f.Add("host = {b = {}, a = {skip_verify = true}}")
	f.Add("[host]\nb.ca = ['x']")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseHosts("/d/hosts.toml", []byte(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "/d/hosts.toml: ") {
				t.Errorf("the error does not name the file: %v", err)
			}
			return
		}
		for _, e := range append(h.hosts, h.server) {
			if u, err := url.Parse(e.at.String()); err != nil || u.User != nil {
				t.Errorf("host %q: %v", e.at.String(), err)
			}
		}
	})
}

func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"`)
	f.Add(`Negotiate, Basic realm="a, \"b\"", Bearer realm = x , scope=y`)
	f.Add(`NTLM TlRMTVNTUAAB==, Bearer realm="x"`)
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := choose(parseChallenges([]string{text}))
		if !ok || c.scheme == "basic" {
			return
		}
		again := parseChallenge(written(c))
		kept := map[string]string{}
		for _, k := range []string{"realm", "service", "scope"} {
			if v, ok := c.params[k]; ok {
				kept[k] = v
			}
		}
		if printable(kept) && (len(again) != 1 || !maps.Equal(again[0].params, kept)) {
			t.Errorf("%q became %q", kept, again)
		}
	})
}

// written is a challenge as a header has it.
func written(c challenge) string {
	if c.scheme == "basic" {
		return "Basic"
	}
	s, separator := "Bearer", " "
	for _, k := range []string{"realm", "service", "scope"} {
		if v, ok := c.params[k]; ok {
			s += separator + k + "=" + strconv.Quote(v)
			separator = ","
		}
	}
	return s
}

// printable reports whether Go's way of quoting is HTTP's way for all the values.
func printable(m map[string]string) bool {
	for _, v := range m {
		if !utf8.ValidString(v) || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
			return false
		}
	}
	return true
}

func TestParseChallenge(t *testing.T) {
	for text, want := range map[string]string{
		`Bearer realm="https://a/token",service="s",scope="x:y:pull,push"`: `Bearer realm="https://a/token",service="s",scope="x:y:pull,push"`,
		`bearer Realm="r" , SCOPE = s`:                                     `Bearer realm="r",scope="s"`,
		`Basic realm="x"`:                                                  "Basic",
		`Basic realm="x", Bearer realm="r"`:                                `Bearer realm="r"`,
		`Bearer realm="r", Basic`:                                          `Bearer realm="r"`,
		`Negotiate, NTLM, Basic realm="x"`:                                 "Basic",
		`Negotiate abc==, Basic`:                                           "",
		`Bearer service="no realm"`:                                        "",
		`Bearer realm="open`:                                               "",
		`Bearer realm="a\"b"`:                                              `Bearer realm="a\"b"`,
		``:                                                                 "",
	} {
		got := ""
		if c, ok := choose(parseChallenges([]string{text})); ok {
			got = written(c)
		}
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}

func FuzzErrorBody(f *testing.F) {
	f.Add(`{"errors":[{"code":"DENIED","message":"no","detail":"because"}]}`, "application/json")
	f.Add(`{"errors":[{"code":"MANIFEST_UNKNOWN","detail":{"a":[1]}}]}`, "")
	f.Add(`{"message":"x"}`, "")
	f.Add("plain\ntext", "text/plain; charset=utf-8")
	f.Fuzz(func(t *testing.T, body, contentType string) {
		code, text := parseErrorBody([]byte(body), contentType)
		for _, s := range []string{code, text} {
			if utf8.RuneCountInString(s) > maxErrorText+1 || !utf8.ValidString(s) || strings.ContainsAny(s, "\r\n\t") {
				t.Errorf("%q", s)
			}
		}
	})
}

func TestParseErrorBody(t *testing.T) {
	for body, want := range map[string][2]string{
		`{"errors":[{"code":"DENIED","message":"no","detail":"because"}]}`:        {"DENIED", "no: because"},
		`{"errors":[{"code":"MANIFEST_UNKNOWN","detail":{"a":[1]}}]}`:             {"MANIFEST_UNKNOWN", "manifest unknown"},
		`{"errors":[{"code":"X","message":"same","detail":"same"},{"code":"Y"}]}`: {"X", "same"},
		`{"errors":[]}`:                                  {"", ""},
		`{"errors":"none"}`:                              {"", ""},
		`{"message":"a","details":"b"}`:                  {"", "a"},
		`{"details":"b"}`:                                {"", "b"},
		`{"detail":"c"}`:                                 {"", "c"},
		`<html><h1>Go away</h1>`:                         {"", ""},
		`{"message":"` + strings.Repeat("é", 400) + `"}`: {"", strings.Repeat("é", maxErrorText) + "…"},
	} {
		if code, text := parseErrorBody([]byte(body), "text/html"); code != want[0] || text != want[1] {
			t.Errorf("%s: %q, %q", body, code, text)
		}
	}
	if _, text := parseErrorBody([]byte("\n first line \nsecond"), "text/plain"); text != "first line" {
		t.Errorf("%q", text)
	}
}

func FuzzAuthFile(f *testing.F) {
	f.Add(`{"auths":{"https://index.docker.io/v1/":{"auth":"YTpi"}},"credHelpers":{"r.example":"x"},"credsStore":"y","other":1}`)
	f.Add(`{"auths":{"r.example/team":{"identitytoken":"t"}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAuthFile("f", []byte(text))
		if err != nil {
			return
		}
		if err := a.put("new.example", authEntry{Auth: basicAuth("a", "b")}); err != nil {
			t.Fatal(err)
		}
		data, err := a.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseAuthFile("f", data)
		if err != nil || len(again.content) < len(a.content) || len(again.rawAuths) != len(a.rawAuths) {
			t.Fatalf("%q became %q: %v", text, data, err)
		}
		again.credHelpers, again.credsStore = nil, ""
		cred, err := again.find(context.Background(), "new.example", "x")
		if err != nil || cred.user != "a" || cred.secret != "b" {
			t.Errorf("%q: %v", data, err)
		}
	})
}

func FuzzDecideType(f *testing.F) {
	f.Add("application/json", `{"schemaVersion":2,"mediaType":"x","layers":[]}`)
	f.Add("", `{"manifests":[]}`)
	f.Fuzz(func(t *testing.T, header, body string) {
		if got, err := decideType(header, []byte(body)); err == nil && !known(got) {
			t.Errorf("%q", got)
		}
	})
}

func FuzzNextLink(f *testing.F) {
	f.Add(`</v2/x/tags/list?last=a>; rel="next"`)
	f.Add(`<a>; rel=prev, <b>; foo; rel=next`)
	f.Fuzz(func(t *testing.T, text string) {
		if got := nextLink([]string{text}); !strings.Contains(text, "<"+got+">") && got != "" {
			t.Errorf("%q from %q", got, text)
		}
	})
}
