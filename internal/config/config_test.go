package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"strata/internal/errdef"
)

// write puts files below a directory and makes it the user's for settings.
func write(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	t.Setenv("DOCKER_CONFIG", filepath.Join(dir, "docker"))
	t.Setenv("STRATA_CONFIG", "")
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOneFileAfterAnother(t *testing.T) {
	c := Default()
	c.origins = map[string]string{}
	machine := "runtime = \"crun\"\n[ulimits]\nnofile = \"10\"\ncore = \"0\"\n[log]\nmax-size = \"1m\"\n[dns]\nservers = [\"10.0.0.1\", \"10.0.0.2\"]\n"
	const pool = "[[network.address-pools]]\nbase = \"10.%d.0.0/16\"\nsize = 24\n"
	machine += fmt.Sprintf(pool+pool, 1, 2)
	user := fmt.Sprintf(pool, 3) + "[ulimits]\nnofile = \"20:30\"\n[dns]\nservers = [\"10.0.0.3\"]\n"
	for _, f := range [][2]string{{"machine", machine}, {"user", user}} {
		if err := c.read(f[0], []byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, s := range c.Settings() {
		got = append(got, s.Name+"="+s.Value+" ("+s.Origin+")")
	}
	want := []string{
		"detach-keys= (default)", "runtime=crun (machine)", "dns.options= (default)", "dns.search= (default)", "dns.servers=10.0.0.3 (user)",
		"log.driver=json-file (default)", "log.max-file=3 (default)", "log.max-size=1m (machine)",
		"network.address-pools=10.3.0.0/16 by /24 (user)", "security.no-new-privileges=false (default)", "security.seccomp=builtin (default)", "security.userns=host (default)", "security.userns-range=1879048192:268304384 (default)",
		"ulimits.core=0 (machine)", "ulimits.nofile=20:30 (user)",
	}
	have := map[string]bool{}
	for _, s := range got {
		have[s] = true
	}
	for _, s := range want {
		if !have[s] {
			t.Errorf("no setting %q in %q", s, got)
		}
	}
	if s := c.Settings()[0]; strings.Contains(s.Name, ".") {
		t.Errorf("a table's key stands first: %v", s)
	}
}

func TestUserFileIsFound(t *testing.T) {
	dir := write(t, map[string]string{"config/strata/strata.toml": "[log]\nmax-file = 7\n"})
	c, err := Load()
	if err != nil || c.Log.MaxFile != 7 || c.Log.Driver != "json-file" {
		t.Fatalf("%+v, %v", c, err)
	}
	if got := c.Origin("log.max-file"); got != filepath.Join(dir, "config/strata/strata.toml") {
		t.Errorf("origin %q", got)
	}
	err = c.Fault("log.max-file", errdef.ErrInvalid)
	if !strings.Contains(err.Error(), "strata.toml: log.max-file: invalid") || !errors.Is(err, errdef.ErrInvalid) {
		t.Error(err)
	}
}

func TestNamedFileMustBeThere(t *testing.T) {
	dir := write(t, map[string]string{"config/strata/strata.toml": "[log]\nmax-file = 7\n", "own.toml": "runtime = \"x\"\n"})
	t.Setenv("STRATA_CONFIG", filepath.Join(dir, "own.toml"))
	c, err := Load()
	if err != nil || c.Runtime != "x" || c.Log.MaxFile != 3 {
		t.Fatalf("%+v, %v", c, err)
	}
	t.Setenv("STRATA_CONFIG", filepath.Join(dir, "none.toml"))
	if _, err := Load(); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestStrict(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"runtme = \"x\"\n", `line 1: key "runtme" is not known`},
		{"[log]\ndriver = \"x\"\nsize = 3\n", `line 3: key "log.size" is not known`},
		{"[log]\nmax-file = \"3\"\n", "line 2"},
		{"[log\n", "line 1"},
	} {
		conf := Default()
		conf.origins = map[string]string{}
		err := conf.read("strata.toml", []byte(c.text))
		if !errors.Is(err, errdef.ErrInvalid) || !strings.Contains(err.Error(), "strata.toml: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
}

func TestDocker(t *testing.T) {
	write(t, map[string]string{"docker/config.json": `{"auths": {}, "psFormat": "{{.ID}}", "proxies": {"default": {"httpProxy": "http://p:1", "noProxy": "x"}}}`})
	d, err := LoadDocker()
	if err != nil || d.PsFormat != "{{.ID}}" || d.File == "" {
		t.Fatalf("%+v, %v", d, err)
	}
	want := []string{"HTTP_PROXY=http://p:1", "http_proxy=http://p:1", "NO_PROXY=x", "no_proxy=x"}
	if diff := cmp.Diff(want, d.Environment()); diff != "" {
		t.Error(diff)
	}
	write(t, map[string]string{"docker/config.json": `{"psFormat": 3}`})
	if _, err := LoadDocker(); !errors.Is(err, errdef.ErrInvalid) {
		t.Error(err)
	}
	write(t, nil)
	if d, err := LoadDocker(); err != nil || d.File != "" {
		t.Error(d, err)
	}
}
