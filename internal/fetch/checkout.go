package fetch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/progress"
)

// Commit is what a [Repo] comes to: it decides the tree.
type Commit struct {
	// ID is the commit's digest.
	ID string
	// Ref is the full name under which the remote has it: "refs/heads/main"; "" when it was named by its digest.
	Ref string
	// tag is the digest of the annotated tag that names the commit.
	tag string
}

// Resolve finds the commit that r means, which takes a question to the remote unless r names one by its digest.
func (c *Cache) Resolve(ctx context.Context, r *Repo) (Commit, error) {
	commit, err := c.resolve(ctx, r)
	return commit, c.about(ctx, r, err)
}

// about names the repository in an error.
func (c *Cache) about(ctx context.Context, r *Repo, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	err = fmt.Errorf("git repository %s: %w", Redact(r.Remote), err)
	failed := asGitError(err)
	if failed == nil {
		return err
	}
	if failed.says("could not read Username", "Authentication failed", "terminal prompts disabled", "returned error: 403") {
		return errdef.WithHint(fmt.Errorf("%w: %w", err, errdef.ErrDenied), "give a token with: --secret id=GIT_AUTH_TOKEN,src=FILE")
	}
	if failed.says("does not exist", "' not found") {
		return fmt.Errorf("%w: %w", err, errdef.ErrNotFound)
	}
	if failed.says("Permission denied (publickey") {
		return errdef.WithHint(fmt.Errorf("%w: %w", err, errdef.ErrDenied), "load the key into the agent: ssh-add")
	}
	return fmt.Errorf("%w: %w", err, errdef.ErrUnavailable)
}

func (c *Cache) resolve(ctx context.Context, r *Repo) (Commit, error) {
	if isCommit(r.Ref) {
		if !strings.HasPrefix(r.Ref, r.Checksum) {
			return Commit{}, mismatch(r, r.Ref)
		}
		return Commit{ID: r.Ref}, nil
	}
	if r.ByCommit {
		ref := r.Ref
		if ref != "" && !strings.HasPrefix(ref, "refs/") {
			ref = "refs/heads/" + ref
		}
		return Commit{ID: r.Checksum, Ref: ref}, nil
	}
	g, err := c.newGit(r, nil)
	if err != nil {
		return Commit{}, err
	}
	ref := r.Ref
	if ref == "" {
		if ref, err = g.defaultBranch(ctx, r.Remote); err != nil {
			return Commit{}, err
		}
	}
	out, err := g.run(ctx, "ls-remote", "--", r.Remote, ref, ref+"^{}")
	if err != nil {
		return Commit{}, err
	}
	commit, err := choose(out, ref)
	if err != nil {
		return commit, err
	}
	if !strings.HasPrefix(commit.ID, r.Checksum) && !strings.HasPrefix(commit.tag, r.Checksum) {
		return Commit{}, mismatch(r, commit.ID)
	}
	return commit, nil
}

func mismatch(r *Repo, got string) error {
	return fmt.Errorf("%q is commit %s, not %s as the checksum wants: %w", r.Ref, got, r.Checksum, errdef.ErrCorrupt)
}

func (g *git) defaultBranch(ctx context.Context, remote string) (string, error) {
	out, err := g.run(ctx, "ls-remote", "--symref", "--", remote, "HEAD")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(line, "ref: refs/heads/"); ok {
			if name, _, _ := strings.Cut(rest, "\t"); !strings.HasPrefix(name, "-") {
				return "refs/heads/" + name, nil
			}
		}
	}
	return "", errdef.WithHint(fmt.Errorf("it has no default branch: %w", errdef.ErrNotFound), "name one: "+Redact(remote)+"#main")
}

// choose picks from ls-remote's lines the one that ref means: the full name, else a branch, else a tag, as git does. Of an
// annotated tag it is the commit that is tagged.
func choose(lines, ref string) (Commit, error) {
	found := map[string]string{}
	for line := range strings.Lines(lines) {
		id, name, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if ok && isCommit(id) {
			found[name] = id
		}
	}
	for _, name := range []string{"refs/" + strings.TrimPrefix(ref, "refs/"), "refs/heads/" + strings.TrimPrefix(ref, "refs/heads/"), "refs/tags/" + strings.TrimPrefix(ref, "refs/tags/")} {
		id := found[name]
		if id == "" {
			continue
		}
		if tagged := found[name+"^{}"]; tagged != "" {
			return Commit{tagged, name, id}, nil
		}
		return Commit{ID: id, Ref: name}, nil
	}
	return Commit{}, fmt.Errorf("it has no branch or tag %q: %w", strings.TrimPrefix(ref, "refs/heads/"), errdef.ErrNotFound)
}

// Checkout puts the tree of a commit into the new directory dir, modes as git gives them with the usual umask, and gives the
// directory of it that r names.
func (c *Cache) Checkout(ctx context.Context, r *Repo, at Commit, dir string) (tree string, err error) {
	task := progress.Begin(c.Sink, "fetch "+r.Remote+"#"+at.ID+" "+dir, "[fetch] "+Redact(r.Remote)+"#"+at.ID[:min(12, len(at.ID))])
	defer func() { task.End(ctx, false, err) }()
	place := c.place(gitDir, r.Remote)
	lock, err := c.lock(ctx, place, r.Remote)
	if err != nil {
		return "", err
	}
	defer lock.Unlock()
	g, err := c.newGit(r, lock.File())
	if err == nil {
		g.dir = place
		err = g.have(ctx, r, at)
	}
	if err == nil {
		err = os.Mkdir(dir, 0o755)
	}
	if err == nil {
		err = os.Chmod(dir, 0o755) // whatever the umask
	}
	if err == nil {
		tree, err = g.checkout(ctx, r, at, dir)
	}
	return tree, c.about(ctx, r, err)
}

// have makes the commit part of the bare repository. One that was left half made, or is damaged, is begun anew.
func (g *git) have(ctx context.Context, r *Repo, at Commit) error {
	if err := removeLocks(g.dir); err != nil {
		return err
	}
	if _, err := g.run(ctx, "rev-parse", "--git-dir"); err != nil {
		if ctx.Err() != nil || asGitError(err) == nil {
			return err
		}
		if err := g.begin(ctx, at); err != nil {
			return err
		}
	}
	if g.has(ctx, at.ID) {
		return nil
	}
	err := g.fetch(ctx, r, at)
	if failed := asGitError(err); failed != nil && failed.says("bad object", "corrupt", "unable to read", "object file", "loose object") {
		if err = g.begin(ctx, at); err == nil {
			err = g.fetch(ctx, r, at)
		}
	}
	return err
}

// begin makes an empty bare repository.
func (g *git) begin(ctx context.Context, at Commit) error {
	entries, err := os.ReadDir(g.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(g.dir, e.Name())); err != nil {
			return err
		}
	}
	_, err = g.run(ctx, "-c", "init.defaultBranch=master", "init", "-q", "--bare", "--template=", "--object-format="+format(at))
	return err
}

// format is the hash that a repository with this commit uses.
func format(at Commit) string {
	if len(at.ID) == 64 {
		return "sha256"
	}
	return "sha1"
}

// removeLocks removes the lock files of a git that was killed: nobody else works here, for even a git that has lost its
// parent holds the lock that we hold now.
func removeLocks(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "objects":
			return fs.SkipDir
		case d.Type().IsRegular() && strings.HasSuffix(name, lockSuffix):
			return os.Remove(name)
		}
		return nil
	})
}

func (g *git) has(ctx context.Context, id string) bool {
	_, err := g.run(ctx, "cat-file", "-e", id+"^{commit}")
	return err == nil
}

// fetch brings the commit: alone, where the remote can do that, else with all that is in the remote.
func (g *git) fetch(ctx context.Context, r *Repo, at Commit) error {
	// What is fetched gets a name that no name of the remote can get in the way of.
	to := ":refs/strata/" + at.ID
	want := at.Ref
	if want == "" || r.ByCommit {
		want = at.ID
	}
	err := g.fetchOne(ctx, r.Remote, "+"+want+to)
	if err == nil && g.has(ctx, at.ID) {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil { // the name has moved on since it was resolved
		if err = g.fetchOne(ctx, r.Remote, "+"+at.ID+to); err == nil && g.has(ctx, at.ID) {
			return nil
		}
	}
	if failed := asGitError(err); failed != nil && !failed.says("not our ref", "unadvertised object", "couldn't find remote ref", "unable to find", "no such remote ref") {
		return err
	}
	args := []string{"fetch", "-q", "--force", "--no-tags"}
	if _, err := os.Lstat(filepath.Join(g.dir, "shallow")); err == nil {
		args = append(args, "--unshallow")
	}
	if _, err := g.run(ctx, append(args, "--", r.Remote, "+refs/heads/*:refs/strata/heads/*", "+refs/tags/*:refs/strata/tags/*")...); err != nil {
		return err
	}
	if !g.has(ctx, at.ID) {
		return fmt.Errorf("it has no commit %s: %w", at.ID, errdef.ErrNotFound)
	}
	_, err = g.run(ctx, "update-ref", "refs/strata/"+at.ID, at.ID)
	return err
}

// fetchOne fetches a refspec without its history, or with it from a remote that cannot leave it out.
func (g *git) fetchOne(ctx context.Context, remote, refspec string) error {
	_, err := g.run(ctx, "fetch", "-q", "--depth=1", "--no-tags", "--force", "--", remote, refspec)
	if failed := asGitError(err); failed != nil && failed.says("--depth", "shallow") {
		_, err = g.run(ctx, "fetch", "-q", "--no-tags", "--force", "--", remote, refspec)
	}
	return err
}

func (g *git) checkout(ctx context.Context, r *Repo, at Commit, dir string) (string, error) {
	keep := r.KeepGitDir != nil && *r.KeepGitDir && r.Dir == ""
	w := *g
	w.tree = dir
	var err error
	if keep {
		w.dir = filepath.Join(dir, ".git")
		err = w.clone(ctx, r, at, g.dir)
	} else if err = g.forgetIndex(); err == nil {
		_, err = w.run(ctx, "checkout", "-q", "--no-overlay", at.ID, "--", ".")
	}
	if err == nil && !r.NoSubmodules {
		err = w.submodules(ctx, dir, keep)
	}
	if err == nil && r.CommitTime {
		err = w.commitTimes(ctx, at, dir)
	}
	if err != nil {
		return "", err
	}
	return subtree(dir, r.Dir)
}

// forgetIndex: a bare repository's index tells of another directory.
func (g *git) forgetIndex() error {
	err := os.Remove(filepath.Join(g.dir, "index"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// clone makes a repository with the one commit, as a shallow clone of the remote has it.
func (g *git) clone(ctx context.Context, r *Repo, at Commit, bare string) error {
	from, to := "refs/strata/"+at.ID, ""
	if at.Ref != "" {
		to = ":" + at.Ref
		if at.tag != "" && g.hasTag(ctx, bare, at.tag) {
			from = "refs/strata/tag/" + at.tag
		}
	}
	if at.Ref == "" || from == "refs/strata/"+at.ID {
		if _, err := (&git{dir: bare, config: g.config, env: g.env, keep: g.keep}).run(ctx, "update-ref", from, at.ID); err != nil {
			return err
		}
	}
	local := "file://" + bare
	for _, args := range [][]string{
		{"-c", "init.defaultBranch=master", "init", "-q", "--object-format=" + format(at)},
		{"remote", "add", "origin", local},
		{"fetch", "-q", "-u", "--depth=1", "--", "origin", from + to},
		{"checkout", "-q", "FETCH_HEAD"},
		{"remote", "set-url", "origin", Redact(r.Remote)},
		{"reflog", "expire", "--all", "--expire=now"},
	} {
		if _, err := g.run(ctx, args...); err != nil {
			return err
		}
	}
	err := os.Remove(filepath.Join(g.dir, "FETCH_HEAD"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// hasTag gives an annotated tag that came with its commit a name to be cloned by.
func (g *git) hasTag(ctx context.Context, bare, tag string) bool {
	b := git{dir: bare, config: g.config, env: g.env, keep: g.keep}
	if _, err := b.run(ctx, "cat-file", "-e", tag); err != nil {
		return false
	}
	_, err := b.run(ctx, "update-ref", "refs/strata/tag/"+tag, tag)
	return err == nil
}

// submodules fills the submodules. Without a .git there is nothing that theirs could lead to.
func (g *git) submodules(ctx context.Context, dir string, keep bool) error {
	if _, err := os.Lstat(filepath.Join(dir, ".gitmodules")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, err := g.run(ctx, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
	if failed := asGitError(err); failed != nil && failed.says("--depth", "shallow") {
		_, err = g.run(ctx, "submodule", "--quiet", "update", "--init", "--recursive")
	}
	if err != nil || keep {
		return err
	}
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == ".git" && d.Type().IsRegular() {
			return os.Remove(name)
		}
		return err
	})
}

// commitTimes gives all in dir the time of the commit.
func (g *git) commitTimes(ctx context.Context, at Commit, dir string) error {
	out, err := g.run(ctx, "log", "-1", "--format=%ct", at.ID)
	if err != nil {
		return err
	}
	sec, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		return fmt.Errorf("the time of commit %s: %w: %w", at.ID, err, errdef.ErrCorrupt)
	}
	ts := unix.NsecToTimespec(time.Unix(sec, 0).UnixNano())
	var dirs []string
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			dirs = append(dirs, name)
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	})
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, dirs[i], []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}
	return err
}

// subtree gives a directory of the tree, which must not be reached over a link.
func subtree(dir, sub string) (string, error) {
	at := dir
	if sub == "" {
		return at, nil
	}
	for part := range strings.SplitSeq(sub, "/") {
		at = filepath.Join(at, part)
		info, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("directory %q: %w", sub, errdef.ErrNotFound)
		}
		if err != nil {
			return "", err
		}
		if !info.IsDir() {
			return "", fmt.Errorf("directory %q: %q is none: %w", sub, part, errdef.ErrInvalid)
		}
	}
	return at, nil
}
