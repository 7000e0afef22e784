package fetch

import (
	"context"
	"fmt"
	"strings"

	"strata/internal/errdef"
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

// Key is all of the commit that decides r's tree.
func (c Commit) Key(r *Repo) string {
	if !r.keeps() {
		return c.ID
	}
	return strings.TrimRight(c.ID+" "+c.Ref+" "+c.tag, " ")
}

// keeps reports whether .git is in the tree: it belongs to the whole one only.
func (r *Repo) keeps() bool { return r.KeepGitDir != nil && *r.KeepGitDir && r.Dir == "" }

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
