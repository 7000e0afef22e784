package fetch

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"strata/internal/errdef"
	"strata/internal/progress"
)

// gitIn runs git in dir, as nobody in particular and on one day.
func gitIn(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b", "GIT_AUTHOR_DATE=1000000000 +0000", "GIT_COMMITTER_DATE=1000000000 +0000")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// project is a served repository: main with dir/d and the submodule mod, dev, and the tags light and noted.
type project struct {
	t         testing.TB
	work, url string
	auth      atomic.Value // a string that every request must have as Authorization
}

func newProject(t testing.TB) *project {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git")
	}
	p := &project{t: t}
	top := t.TempDir()
	files := http.FileServer(http.Dir(top))
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if auth, _ := p.auth.Load().(string); auth != "" && r.Header.Get("Authorization") != auth {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		files.ServeHTTP(w, r)
	})
	p.work, p.url = filepath.Join(top, "r"), url+"/r/.git"
	sub := filepath.Join(top, "sub")
	for dir, name := range map[string]string{sub: "s", p.work: "a"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		gitIn(t, dir, "init", "-q")
		write(t, filepath.Join(dir, name), name)
		gitIn(t, dir, "add", ".")
		gitIn(t, dir, "commit", "-qm", "one")
		gitIn(t, dir, "update-server-info")
	}
	gitIn(t, p.work, "tag", "light")
	write(t, filepath.Join(p.work, "dir", "d"), "d")
	if err := os.Symlink("a", filepath.Join(p.work, "l")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.work, "x"), "#!")
	if err := os.Chmod(filepath.Join(p.work, "x"), 0o777); err != nil {
		t.Fatal(err)
	}
	gitIn(t, p.work, "submodule", "add", "-q", url+"/sub/.git", "mod")
	p.commit("two")
	gitIn(t, p.work, "tag", "-am", "note", "noted")
	gitIn(t, p.work, "checkout", "-qb", "dev")
	write(t, filepath.Join(p.work, "a"), "dev")
	p.commit("dev")
	gitIn(t, p.work, "checkout", "-q", "main")
	gitIn(t, p.work, "update-server-info")
	return p
}

func (p *project) commit(name string) {
	gitIn(p.t, p.work, "add", ".")
	gitIn(p.t, p.work, "commit", "-qm", name)
	gitIn(p.t, p.work, "update-server-info")
}

func (p *project) rev(name string) string { return gitIn(p.t, p.work, "rev-parse", name) }

func write(t testing.TB, name, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// names lists what is in a tree, .git not opened.
func names(t testing.TB, tree string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(tree, func(name string, d os.DirEntry, err error) error {
		if err != nil || name == tree {
			return err
		}
		rel, _ := filepath.Rel(tree, name)
		all = append(all, rel)
		if d.Name() == ".git" && d.IsDir() {
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func (p *project) checkout(c *Cache, what string) (string, error) {
	p.t.Helper()
	r, err := ParseRepo(p.url + what)
	if err != nil {
		p.t.Fatal(err)
	}
	commit, err := c.Resolve(p.t.Context(), r)
	if err != nil {
		return "", err
	}
	return c.Checkout(p.t.Context(), r, commit, filepath.Join(p.t.TempDir(), "tree"))
}

func TestCheckout(t *testing.T) {
	p := newProject(t)
	c := cacheIn(t, Options{})
	const all = ".gitmodules a dir dir/d l mod mod/s x"
	for what, want := range map[string]string{
		"": all, "#main": all, "#dev": all, "#noted": all, "#light": "a", "#light:": "a", "#:dir": "d", "?branch=dev&subdir=mod": "s",
		"?submodules=false": ".gitmodules a dir dir/d l mod x", "?keep-git-dir&ref=noted": ".git .gitmodules a dir dir/d l mod mod/.git mod/s x",
		"#" + p.rev("light"): "a", "?keep-git-dir#" + p.rev("light"): ".git a", "?keep-git-dir=1&subdir=dir": "d",
	} {
		tree, err := p.checkout(c, what)
		if err != nil {
			t.Errorf("%q: %v", what, err)
			continue
		}
		if got := names(t, tree); got != want {
			t.Errorf("%q:\n got %s\nwant %s", what, got, want)
		}
	}
	tree, err := p.checkout(c, "?mtime=commit")
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"a": 0o644, "x": 0o755, "dir": 0o755 | os.ModeDir, "": 0o755 | os.ModeDir} {
		info, err := os.Lstat(filepath.Join(tree, name))
		if err != nil || info.Mode() != mode || info.ModTime().Unix() != 1000000000 {
			t.Errorf("%q: %v %v %v", name, info.Mode(), info.ModTime(), err)
		}
	}
}

func TestCheckoutKeepsTag(t *testing.T) {
	p := newProject(t)
	c := cacheIn(t, Options{})
	if _, err := p.checkout(c, "#main"); err != nil { // the commit that is tagged, without the tag
		t.Fatal(err)
	}
	tree, err := p.checkout(c, "?keep-git-dir#noted")
	if err != nil {
		t.Fatal(err)
	}
	if got := gitIn(t, tree, "describe"); got != "noted" {
		t.Errorf("describe: %s", got)
	}
	if got := gitIn(t, tree, "remote", "get-url", "origin"); got != p.url {
		t.Errorf("origin is %s", got)
	}
	if got := gitIn(t, tree, "status", "--short"); got != "" {
		t.Errorf("status: %s", got)
	}
}

func TestResolveFollowsTheBranch(t *testing.T) {
	p := newProject(t)
	c := cacheIn(t, Options{})
	for _, text := range []string{"1", "2"} {
		write(t, filepath.Join(p.work, "a"), text)
		p.commit(text)
		tree, err := p.checkout(c, "")
		if err != nil {
			t.Fatal(err)
		}
		if raw, _ := os.ReadFile(filepath.Join(tree, "a")); string(raw) != text {
			t.Errorf("a is %q, want %q", raw, text)
		}
	}
}

// Between the question and the fetch the branch was moved: the commit that was keyed is what is taken.
func TestCheckoutOfWhatWasResolved(t *testing.T) {
	p := newProject(t)
	c := cacheIn(t, Options{})
	r, _ := ParseRepo(p.url)
	at, err := c.Resolve(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.work, "later"), "x")
	p.commit("later")
	tree, err := c.Checkout(t.Context(), r, at, filepath.Join(t.TempDir(), "tree"))
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, tree); strings.Contains(got, "later") {
		t.Error(got)
	}
}

func TestCheckoutNeedsNoNetworkTwice(t *testing.T) {
	p := newProject(t)
	c := cacheIn(t, Options{})
	what := "?submodules=0#" + p.rev("main")
	if _, err := p.checkout(c, what); err != nil {
		t.Fatal(err)
	}
	p.auth.Store("nobody")
	if _, err := p.checkout(c, what); err != nil {
		t.Error(err)
	}
}

func TestGitFails(t *testing.T) {
	p := newProject(t)
	c := cacheIn(t, Options{})
	for what, want := range map[string]error{
		"#nope": errdef.ErrNotFound, "#:nope": errdef.ErrNotFound, "#:a": errdef.ErrInvalid, "#:l": errdef.ErrInvalid, "?checksum=abc&ref=main": errdef.ErrCorrupt,
		"#" + strings.Repeat("a", 40): errdef.ErrNotFound,
	} {
		if _, err := p.checkout(c, what); !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := p.checkout(c, "?checksum="+p.rev("main")[:9]); err != nil {
		t.Error(err)
	}
	if _, err := p.checkout(c, "?fetch-by-commit&ref=main&checksum="+p.rev("light")); err != nil {
		t.Error(err)
	}
	p.url += "/nope.git"
	if _, err := p.checkout(c, ""); !errors.Is(err, errdef.ErrNotFound) {
		t.Error(err)
	}
	ssh, _ := ParseRepo("git@127.0.0.1:x")
	if _, err := c.Resolve(t.Context(), ssh); !errors.Is(err, errdef.ErrNotFound) || errdef.Hint(err) != "give one with: --ssh default" {
		t.Errorf("%v, hint %q", err, errdef.Hint(err))
	}
}

func TestGitToken(t *testing.T) {
	p := newProject(t)
	token := "basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:s3cret"))
	p.auth.Store(token)
	if _, err := p.checkout(cacheIn(t, Options{}), "#light"); !errors.Is(err, errdef.ErrDenied) || !strings.Contains(errdef.Hint(err), "GIT_AUTH_TOKEN") {
		t.Errorf("%v, hint %q", err, errdef.Hint(err))
	}
	host := strings.Split(p.url, "/")[2]
	for _, secrets := range []map[string][]byte{
		{"GIT_AUTH_TOKEN": []byte("s3cret\n")}, {"GIT_AUTH_HEADER": []byte(token)}, {"GIT_AUTH_TOKEN." + host: []byte("s3cret"), "GIT_AUTH_TOKEN": []byte("wrong")},
	} {
		c := cacheIn(t, Options{Secrets: secrets})
		if _, err := p.checkout(c, "#light"); err != nil {
			t.Error(err)
		}
		if out, _ := exec.Command("grep", "-rl", "-e", "s3cret", "-e", strings.TrimPrefix(token, "basic "), c.Dir).Output(); len(out) > 0 {
			t.Errorf("the token is in %s", out)
		}
	}
}

// By ssh: the agent is given, the key of an unknown host is remembered in the cache.
func TestGitOverSSH(t *testing.T) {
	p := newProject(t)
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	programs := t.TempDir()
	write(t, filepath.Join(programs, "ssh"), "#!/bin/sh\ntest -S \"$SSH_AUTH_SOCK\" || exit 9\nfor last; do case $last in *known_hosts*) echo \"$last\" >>"+programs+"/asked;; esac; done\nexec sh -c \"$last\"\n")
	if err := os.Chmod(filepath.Join(programs, "ssh"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	c := cacheIn(t, Options{Agent: socket})
	p.url = "git@127.0.0.1:" + p.work
	tree, err := p.checkout(c, "?submodules=0#light")
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, tree); got != "a" {
		t.Error(got)
	}
	asked, _ := os.ReadFile(filepath.Join(programs, "asked"))
	if want := `UserKnownHostsFile="` + c.Dir + `/known_hosts" "`; !strings.HasPrefix(string(asked), want) {
		t.Errorf("ssh was told %q", asked)
	}
}

func TestGitIsNotInstalled(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	r, _ := ParseRepo("https://127.0.0.1:1/x.git")
	_, err := cacheIn(t, Options{}).Resolve(t.Context(), r)
	if !errors.Is(err, errdef.ErrUnavailable) || !strings.Contains(errdef.Hint(err), "apt-get install git") {
		t.Errorf("%v, hint %q", err, errdef.Hint(err))
	}
}

// What a killed git leaves behind, and a repository that is none, are no obstacle.
func TestCheckoutAfterACrash(t *testing.T) {
	p := newProject(t)
	c := cacheIn(t, Options{})
	if _, err := p.checkout(c, "#light"); err != nil {
		t.Fatal(err)
	}
	bare := c.place(gitDir, p.url)
	for _, name := range []string{"index.lock", "shallow.lock", "packed-refs.lock", "refs/strata/heads/x.lock"} {
		write(t, filepath.Join(bare, name), "")
	}
	if _, err := p.checkout(c, "#dev"); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(bare, "HEAD")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.checkout(c, "#light"); err != nil {
		t.Error(err)
	}
	objects, _ := filepath.Glob(filepath.Join(bare, "objects", "??", "*"))
	for _, o := range objects {
		if err := errors.Join(os.Chmod(o, 0o600), os.WriteFile(o, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.checkout(c, "#dev"); err != nil {
		t.Error(err)
	}
}

func TestGitCanceled(t *testing.T) {
	p := newProject(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(context.Canceled)
	r, _ := ParseRepo(p.url)
	if _, err := cacheIn(t, Options{}).Resolve(ctx, r); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A password in a repository's URL is in no event and no error.
func TestGitPasswordIsNotTold(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git")
	}
	r, err := ParseRepo("http://me:secret@127.0.0.1:1/x.git")
	if err != nil {
		t.Fatal(err)
	}
	var events []progress.Event
	c := cacheIn(t, Options{Sink: progress.Func(func(e progress.Event) { events = append(events, e) })})
	_, failed := c.Resolve(t.Context(), r)
	_, err = c.Checkout(t.Context(), r, Commit{ID: strings.Repeat("0", 40)}, filepath.Join(t.TempDir(), "tree"))
	if failed == nil || err == nil || len(events) == 0 {
		t.Fatalf("%v, %v, %d events", failed, err, len(events))
	}
	if told := fmt.Sprintf("%v %v %+v", failed, err, events); strings.Contains(told, "secret") {
		t.Error(told)
	}
}
