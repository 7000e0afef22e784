package fetch

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// git runs the program git, apart from the settings of machine and user: what it gives is to be the same everywhere.
type git struct {
	dir, tree string   // --git-dir, --work-tree
	config    []string // "name=value", for each call
	env       []string
	keep      *os.File // held open by every process: the repository's lock
}

// newGit prepares calls about a repository.
func (c *Cache) newGit(r *Repo, keep *os.File) (*git, error) {
	g := &git{keep: keep, config: []string{
		"protocol.file.allow=user", // a repository must not make a submodule of files of this machine
		"advice.detachedHead=false",
		"gc.auto=0", "maintenance.auto=false", // nothing runs on when git has ended
		"core.hooksPath=/dev/null",
		"http.lowSpeedLimit=1", "http.lowSpeedTime=" + fmt.Sprint(int(idleTimeout.Seconds())),
	}}
	for _, name := range []string{
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
		"GIT_SSL_CAINFO", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR",
	} {
		if value, ok := os.LookupEnv(name); ok {
			g.env = append(g.env, name+"="+value)
		}
	}
	if file := os.Getenv("SSL_CERT_FILE"); file != "" && os.Getenv("GIT_SSL_CAINFO") == "" {
		g.env = append(g.env, "GIT_SSL_CAINFO="+file)
	}
	if header := c.gitAuthorization(r); header != "" {
		g.config = append(g.config, "http."+tokenScope(r.Remote)+".extraheader=Authorization: "+header)
	}
	return g, c.useSSH(r, g)
}

// gitAuthorization is the header for a repository's host, "" without one.
func (c *Cache) gitAuthorization(r *Repo) string {
	for _, suffix := range []string{"." + r.host, ""} {
		if header, ok := c.secret("GIT_AUTH_HEADER" + suffix); ok {
			return header
		}
		if token, ok := c.secret("GIT_AUTH_TOKEN" + suffix); ok {
			return "basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+token))
		}
	}
	return ""
}

// tokenScope is for which URLs a token counts: the repository alone, or its submodules too on the one host where tokens are
// commonly made for all repositories.
func tokenScope(remote string) string {
	for _, scope := range []string{"https://github.com/", "https://www.github.com/"} {
		if strings.HasPrefix(remote, scope) {
			return scope
		}
	}
	return remote
}

// useSSH gives git the agent and its own list of known hosts: who answers the first time is remembered, and one who answers
// with another key later is refused. The user's list is asked too.
func (c *Cache) useSSH(r *Repo, g *git) error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	hosts := filepath.Join(c.Dir, "known_hosts")
	list := quoted(hosts)
	if home, err := os.UserHomeDir(); err == nil {
		list += " " + quoted(filepath.Join(home, ".ssh", "known_hosts"))
	}
	g.env = append(g.env, "GIT_SSH_COMMAND=ssh -F /dev/null -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=20 -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile="+shellQuoted(list))
	if c.Agent != "" {
		g.env = append(g.env, "SSH_AUTH_SOCK="+c.Agent)
	} else if r.ssh {
		return errdef.WithHint(fmt.Errorf("it is reached by ssh, and there is no agent to log in with: %w", errdef.ErrNotFound), "give one with: --ssh default")
	}
	return nil
}

// quoted is a word of ssh's configuration, shellQuoted one of a shell's.
func quoted(text string) string      { return `"` + text + `"` }
func shellQuoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// gitError is a call that failed.
type gitError struct {
	what   string // the subcommand
	stderr string
	err    error
}

func (e *gitError) Error() string {
	text := lastLines(e.stderr)
	if text == "" {
		text = e.err.Error()
	}
	return "git " + e.what + ": " + text
}

func (e *gitError) Unwrap() error { return e.err }

// says reports whether git's messages hold one of texts, in large letters or small.
func (e *gitError) says(texts ...string) bool {
	said := strings.ToLower(e.stderr)
	for _, text := range texts {
		if strings.Contains(said, strings.ToLower(text)) {
			return true
		}
	}
	return false
}

// lastLines gives the end of what git said, in one line.
func lastLines(text string) string {
	var said []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "fatal:") || strings.HasPrefix(line, "error:") || strings.HasPrefix(line, "remote:") {
			said = append(said, line)
		}
	}
	if len(said) == 0 {
		said = strings.Fields(text)
	}
	line := strings.Join(said, " ")
	if len(line) > 500 {
		line = line[:500] + "…"
	}
	return line
}

const maxOutput = 16 << 20 // of one call, in bytes: a list of refs

// run calls git and gives what it printed.
func (g *git) run(ctx context.Context, args ...string) (string, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return "", errdef.WithHint(fmt.Errorf("the program git is not installed: %w", errdef.ErrUnavailable), "install it: apt-get install git, dnf install git or apk add git")
	}
	cmd := exec.Command(program)
	if g.tree != "" {
		cmd.Args = append(cmd.Args, "--work-tree", g.tree)
		cmd.Dir = g.tree
	}
	if g.dir != "" {
		cmd.Args = append(cmd.Args, "--git-dir", g.dir)
	}
	cmd.Args = append(cmd.Args, args...)
	cmd.Env = append(g.environment(), g.env...)
	out, said := &bounded{max: maxOutput}, &bounded{max: 1 << 20}
	cmd.Stdout, cmd.Stderr = out, said
	if g.keep != nil {
		cmd.ExtraFiles = []*os.File{g.keep}
	}
	if err := runGroup(ctx, cmd); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", &gitError{args[0], said.String(), err}
	}
	if out.over {
		return "", fmt.Errorf("git %s: printed more than %d bytes: %w", args[0], maxOutput, errdef.ErrLimit)
	}
	return out.String(), nil
}

// environment is all that git knows of this process. Settings go there and not on the command line, which everybody may read.
func (g *git) environment() []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=/dev/null",
		"GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_COUNT=" + fmt.Sprint(len(g.config)),
	}
	for i, setting := range g.config {
		name, value := cutSetting(setting)
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, name), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, value))
	}
	return env
}

// cutSetting splits "name=value". A URL in the name may have "=" itself, the last part of a name has not.
func cutSetting(setting string) (name, value string) {
	if at := strings.Index(setting, ".extraheader="); at >= 0 {
		at += len(".extraheader")
		return setting[:at], setting[at+1:]
	}
	name, value, _ = strings.Cut(setting, "=")
	return name, value
}

// bounded keeps the first max bytes.
type bounded struct {
	bytes.Buffer
	max  int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if room := b.max - b.Len(); len(p) > room {
		b.over = true
		b.Buffer.Write(p[:max(room, 0)])
		return len(p), nil
	}
	return b.Buffer.Write(p)
}

const killAfter = 3 * time.Second

// runGroup runs cmd and all that it starts with the usual umask, and ends all of it when ctx ends: politely at first, for git
// then removes its lock files.
func runGroup(ctx context.Context, cmd *exec.Cmd) error {
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = killAfter
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this goroutine, and its umask with it
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			unix.Umask(0o022)
			err = cmd.Start()
		}
		started <- err
	}()
	if err := <-started; err != nil {
		return err
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-ended:
			return
		case <-ctx.Done():
		}
		signalGroup(cmd, unix.SIGTERM)
		select {
		case <-ended:
		case <-time.After(killAfter):
			signalGroup(cmd, unix.SIGKILL)
		}
	}()
	err := cmd.Wait()
	if ctx.Err() != nil {
		signalGroup(cmd, unix.SIGKILL) // whatever of the group is left
	}
	return err
}

// signalGroup signals all that a command has started; nobody may be left.
func signalGroup(cmd *exec.Cmd, signal unix.Signal) { _ = unix.Kill(-cmd.Process.Pid, signal) }

// asGitError gives the failed call in err, nil when it is another error.
func asGitError(err error) *gitError {
	var failed *gitError
	if errors.As(err, &failed) {
		return failed
	}
	return nil
}
