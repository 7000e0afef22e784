package build

import (
	"bytes"
	"encoding/base64"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"strata/internal/oci"
)

func TestSecretForms(t *testing.T) {
	const secret = "s3cr3t/To+ken=42?"
	m := newMatcher(secretPatterns("x", []byte(secret+"\n")))
	pad := strings.Repeat("abc ", 40)
	for text, want := range map[string]bool{
		secret:                   true,
		"TOKEN=" + secret + "\n": true,
		pad + secret + pad:       true,
		base64.StdEncoding.EncodeToString([]byte(secret)):                true,
		base64.RawURLEncoding.EncodeToString([]byte(secret)):             true,
		base64.StdEncoding.EncodeToString([]byte("u:" + secret)):         true,
		base64.StdEncoding.EncodeToString([]byte("u::" + secret)):        true,
		base64.URLEncoding.EncodeToString([]byte("u:::" + secret + "x")): true,
		url.QueryEscape(secret):                                          true,
		url.PathEscape(secret):                                           true,
		strings.ToLower("S3CR3T%2F") + "To%2bken%3d42%3f":                true,
		secret[:len(secret)-1]:                                           false,
		secret[1:]:                                                       false,
		pad:                                                              false,
		"":                                                               false,
	} {
		if got := m.find([]byte(text)) != nil; got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestSecretLines(t *testing.T) {
	key := "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n  short\nanother line\n-----END PRIVATE KEY-----\n"
	m := newMatcher(secretPatterns("x", []byte(key)))
	for text, want := range map[string]bool{
		"x = MIIEvQIBADANBgkq": true, "another line": true, key: true, "short": false,
		"-----BEGIN PRIVATE KEY-----": false, "-----END PRIVATE KEY-----": false,
	} {
		if got := m.find([]byte(text)) != nil; got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if secretPatterns("x", []byte("1234567\n")) != nil || len(ShortSecrets(map[string][]byte{"a": []byte("x"), "b": []byte(key)})) != 1 {
		t.Error("a value of 7 bytes is searched for")
	}
}

// TestLeakAcrossChunks puts the secret at every place around the end of a chunk.
func TestLeakAcrossChunks(t *testing.T) {
	l := newLeaks(&Deps{Secrets: map[string][]byte{"x": []byte("0123456789abcdef")}})
	name := filepath.Join(t.TempDir(), "f")
	for at := leakChunk - 40; at < leakChunk+60; at += 7 {
		data := bytes.Repeat([]byte{'0'}, 2*leakChunk)
		copy(data[at:], "0123456789abcdef")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := (&leakScan{match: l.match}).file(t.Context(), name); err != nil || p == nil {
			t.Errorf("at %d: %v, %v", at, p, err)
		}
	}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 40); err != nil { // a hole that nobody reads
		t.Skip(err)
	}
	if _, err := f.WriteAt([]byte("0123456789abcdef"), 1<<39); err != nil {
		t.Fatal(err)
	}
	if p, err := (&leakScan{match: l.match}).file(t.Context(), name); err != nil || p == nil {
		t.Errorf("in a sparse file: %v, %v", p, err)
	}
}

func TestLeakInConfig(t *testing.T) {
	l := newLeaks(&Deps{Secrets: map[string][]byte{"x": []byte("hunter2hunter2")}})
	for want, change := range map[string]func(*oci.Image){
		"variable A":      func(i *oci.Image) { i.Config.Env = []string{"A=hunter2hunter2"} },
		"a label's name":  func(i *oci.Image) { i.Config.Labels = map[string]string{"hunter2hunter2": ""} },
		"instruction ARG": func(i *oci.Image) { i.History = []oci.History{{CreatedBy: "ARG A=hunter2hunter2"}} },
		"the command":     func(i *oci.Image) { i.Config.Cmd = []string{"x", "hunter2hunter2"} },
		"the volumes":     func(i *oci.Image) { i.Config.Volumes = map[string]struct{}{"/hunter2hunter2": {}} },
	} {
		img := &oci.Image{}
		if err := l.config(img); err != nil {
			t.Fatal(err)
		}
		change(img)
		err := l.config(img)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", want, err)
		}
	}
	if newLeaks(&Deps{}) != nil || newLeaks(&Deps{Secrets: map[string][]byte{"x": []byte("hunter2hunter2")}, AllowLeak: true}) != nil {
		t.Error("searches for nothing")
	}
}

// FuzzMatcher compares the matcher with the plain search.
func FuzzMatcher(f *testing.F) {
	f.Add("password1", "xxpassword1xx")
	f.Add("aaaaaaaaaab", "aaaaaaaaaaaaaaaaab")
	f.Fuzz(func(t *testing.T, secret, text string) {
		if len(secret) < leastSecret || len(secret) > mostPattern {
			return
		}
		m := newMatcher([]pattern{{[]byte(secret), "x", ""}})
		if got := m.find([]byte(text)) != nil; got != strings.Contains(text, secret) {
			t.Errorf("%q in %q: %v", secret, text, got)
		}
	})
}

func BenchmarkMatcher(b *testing.B) {
	m := newMatcher(append(secretPatterns("x", []byte("s3cr3t/To+ken=42?")), secretPatterns("y", []byte("ghp_abcdefghijklmnopqrstuvwxyz012345"))...))
	data := bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog; "), 25000)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		m.find(data)
	}
}
