package fetch

import (
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"

	"strata/internal/errdef"
)

// Repo names a tree in a git repository, as BuildKit writes it: "https://host/a.git#ref:dir", "git@host:a.git",
// "https://host/a.git?branch=main&subdir=dir".
type Repo struct {
	// Remote is what git is told: the URL without fragment and query.
	Remote string
	// Ref is a branch, a tag, a full ref or a commit; "" is the remote's default branch.
	Ref string
	// Dir is the directory whose content is taken, without leading slash; "" is the whole tree.
	Dir string
	// Checksum is the beginning of the commit's digest, in hexadecimal; "" is none.
	Checksum string
	// KeepGitDir keeps .git; nil says nothing of it.
	KeepGitDir *bool
	// NoSubmodules leaves submodules empty.
	NoSubmodules bool
	// CommitTime gives every file the time of the commit.
	CommitTime bool
	// ByCommit fetches Checksum, a whole digest, without asking what Ref is.
	ByCommit bool
	// ssh: the remote is reached by ssh, with an agent.
	ssh bool
	// host of the remote.
	host string
}

// ParseRepo reads a source that names a git repository; nil for one that does not. An error is about the rest of what
// does.
func ParseRepo(source string) (*Repo, error) {
	r, query, fragment := parseRemote(source)
	if r == nil {
		return nil, nil
	}
	ref, dir, _ := strings.Cut(fragment, ":")
	r.Ref, r.Dir = ref, strings.TrimPrefix(path.Join("/", dir), "/")
	values, err := url.ParseQuery(query)
	if err == nil {
		err = r.options(values)
	}
	if err != nil {
		return nil, fmt.Errorf("git repository %s: %w", Redact(source), err)
	}
	if strings.HasPrefix(r.Ref, "-") {
		return nil, fmt.Errorf("git repository %s: %q is no ref: %w", Redact(source), r.Ref, errdef.ErrInvalid)
	}
	r.Checksum = strings.ToLower(r.Checksum)
	return r, r.checkDigest()
}

// parseRemote tells a git remote from everything else and splits off query and fragment.
func parseRemote(source string) (r *Repo, query, fragment string) {
	scheme, rest, ok := strings.Cut(source, "://")
	if !ok {
		return parseScp(source)
	}
	u, err := url.Parse(source)
	if err != nil || rest == "" {
		return nil, "", ""
	}
	switch strings.ToLower(scheme) {
	case "http", "https": // a file, unless the path says that it is a repository
		if !strings.HasSuffix(u.Path, ".git") {
			return nil, "", ""
		}
	case "git", "ssh":
	default:
		return nil, "", ""
	}
	bare := *u
	bare.Fragment, bare.RawFragment, bare.RawQuery, bare.ForceQuery = "", "", "", false
	return &Repo{Remote: bare.String(), ssh: u.Scheme == "ssh", host: u.Host}, u.RawQuery, u.Fragment
}

// parseScp reads "user@host:path?query#fragment".
func parseScp(source string) (r *Repo, query, fragment string) {
	user, rest, ok := strings.Cut(source, "@")
	host, name, colon := strings.Cut(rest, ":")
	if !ok || !colon || strings.ContainsRune(source, '\n') || !made(user, "-_") || !made(host, "-.") ||
		strings.HasPrefix(user, "-") || strings.HasPrefix(host, "-") {
		return nil, "", ""
	}
	if i := strings.IndexAny(name, "?#"); i >= 0 {
		if name[i] == '?' {
			query, fragment, _ = strings.Cut(name[i+1:], "#")
		} else {
			fragment = name[i+1:]
		}
		name = name[:i]
	}
	return &Repo{Remote: user + "@" + host + ":" + name, ssh: true, host: host}, query, fragment
}

// made reports whether text is not empty and of letters, digits and what else alone.
func made(text, what string) bool {
	for _, c := range text {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(what, c) {
			return false
		}
	}
	return text != ""
}

// options reads the query form.
func (r *Repo) options(values url.Values) error {
	for key, all := range values {
		if len(all) > 1 {
			return fmt.Errorf("query %q has several values: %w", key, errdef.ErrInvalid)
		}
		value := all[0]
		var err error
		switch key {
		case "keep-git-dir", "submodules", "fetch-by-commit":
			err = r.toggle(key, value)
		default:
			if value == "" {
				return fmt.Errorf("query %q has no value: %w", key, errdef.ErrInvalid)
			}
			err = r.option(key, value)
		}
		if err != nil {
			return err
		}
	}
	return r.named(values.Get("tag"), values.Get("branch"))
}

func (r *Repo) option(key, value string) error {
	switch key {
	case "ref":
		return set("ref", &r.Ref, value)
	case "subdir":
		return set("subdir", &r.Dir, strings.TrimPrefix(path.Join("/", value), "/"))
	case "checksum", "commit":
		r.Checksum = value
	case "mtime":
		if value != "checkout" && value != "commit" {
			return fmt.Errorf("query mtime=%s: want checkout or commit: %w", value, errdef.ErrInvalid)
		}
		r.CommitTime = value == "commit"
	case "tag", "branch": // see named
	default:
		return fmt.Errorf("unexpected query %q: %w", key, errdef.ErrInvalid)
	}
	return nil
}

func (r *Repo) toggle(key, value string) error {
	on := true
	if value != "" {
		var err error
		if on, err = strconv.ParseBool(value); err != nil {
			return fmt.Errorf("query %s=%s: want true or false: %w", key, value, errdef.ErrInvalid)
		}
	}
	switch key {
	case "keep-git-dir":
		r.KeepGitDir = &on
	case "submodules":
		r.NoSubmodules = !on
	case "fetch-by-commit":
		r.ByCommit = on
	}
	return nil
}

// named takes what the query calls a tag or a branch.
func (r *Repo) named(tag, branch string) error {
	switch {
	case tag != "" && branch != "":
		return fmt.Errorf("a branch and a tag: want one of them: %w", errdef.ErrInvalid)
	case tag != "":
		return set("ref", &r.Ref, "refs/tags/"+strings.TrimPrefix(tag, "refs/tags/"))
	case branch != "":
		return set("ref", &r.Ref, "refs/heads/"+strings.TrimPrefix(branch, "refs/heads/"))
	}
	return nil
}

// set gives a setting its value unless it has another one.
func set(name string, to *string, value string) error {
	if *to != "" && *to != value {
		return fmt.Errorf("two values for %s, %q and %q: %w", name, *to, value, errdef.ErrInvalid)
	}
	*to = value
	return nil
}

// Pin asks for a commit whose digest begins with checksum.
func (r *Repo) Pin(checksum string) error {
	if err := set("checksum", &r.Checksum, strings.ToLower(checksum)); err != nil {
		return err
	}
	return r.checkDigest()
}

// Keep says whether .git is kept.
func (r *Repo) Keep(keep bool) error {
	if r.KeepGitDir != nil && *r.KeepGitDir != keep {
		return fmt.Errorf("keep-git-dir is both true and false: %w", errdef.ErrInvalid)
	}
	r.KeepGitDir = &keep
	return nil
}

func (r *Repo) checkDigest() error {
	if r.Checksum != "" && strings.Trim(r.Checksum, "0123456789abcdef") != "" {
		return fmt.Errorf("checksum %q: want the hexadecimal digest of a commit: %w", r.Checksum, errdef.ErrInvalid)
	}
	if r.ByCommit && !isCommit(r.Checksum) && !isCommit(r.Ref) {
		return fmt.Errorf("fetch-by-commit needs the whole digest of a commit, as checksum or as ref: %w", errdef.ErrInvalid)
	}
	return nil
}

// String is what the tree depends on beside the commit, for a cache key.
func (r *Repo) String() string {
	text := Redact(r.Remote) + "#" + r.Ref + ":" + r.Dir
	if r.KeepGitDir != nil && *r.KeepGitDir {
		text += " keep-git-dir"
	}
	if r.NoSubmodules {
		text += " no-submodules"
	}
	if r.CommitTime {
		text += " mtime=commit"
	}
	return text
}

// isCommit reports whether text is the whole digest of a commit, SHA-1 or SHA-256.
func isCommit(text string) bool {
	return (len(text) == 40 || len(text) == 64) && strings.Trim(text, "0123456789abcdef") == ""
}

// Redact takes the password out of a URL.
func Redact(source string) string {
	u, err := url.Parse(source)
	if err != nil { // by a % in the password, for example
		scheme, rest, ok := strings.Cut(source, "://")
		if at := strings.LastIndexByte(rest, '@'); ok && at >= 0 {
			return scheme + "://xxxxx" + rest[at:]
		}
		return source
	}
	if u.User == nil {
		return source
	}
	if _, ok := u.User.Password(); !ok && (u.Scheme == "ssh" || u.Scheme == "git") {
		return source
	}
	u.User = url.User("xxxxx")
	return u.String()
}
