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

// Checkout puts the tree of a commit into the new directory dir, modes as git gives them with the usual umask, and gives the
// directory of it that r names.
func (c *Cache) Checkout(ctx context.Context, r *Repo, at Commit, dir string) (tree string, err error) {
	remote := Redact(r.Remote)
	task := progress.Begin(c.Sink, "fetch "+remote+"#"+at.ID+" "+dir, "[fetch] "+remote+"#"+at.ID[:min(12, len(at.ID))])
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
	if g.has(ctx, at.ID+"^{commit}") && (at.tag == "" || !r.keeps() || g.has(ctx, at.tag)) {
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

func (g *git) has(ctx context.Context, object string) bool {
	_, err := g.run(ctx, "cat-file", "-e", object)
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
	if err == nil && g.has(ctx, at.ID+"^{commit}") {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil { // the name has moved on since it was resolved
		if err = g.fetchOne(ctx, r.Remote, "+"+at.ID+to); err == nil && g.has(ctx, at.ID+"^{commit}") {
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
	if !g.has(ctx, at.ID+"^{commit}") {
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
	keep := r.keeps()
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
	object, to := at.ID, ""
	if at.tag != "" {
		object = at.tag
	}
	if at.Ref != "" {
		to = ":" + at.Ref
	}
	from := "refs/strata/clone/" + object // only what has a name can be cloned
	b := *g
	b.dir, b.tree = bare, ""
	if _, err := b.run(ctx, "update-ref", from, object); err != nil {
		return err
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
